"""Checkpoints of a training run: the only place with Orbax.

A checkpoint holds the train state and the data position (examples consumed). It becomes visible
only when complete, so a run that is killed while writing goes on from the one before.
"""

import os
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from pose2seg_jax import parallel, paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.models.variables import differences_of_arrays
from pose2seg_jax.training.state import TrainState

BEST_METRIC = "AP"


class CheckpointError(UserError):
    """There is no checkpoint, or it does not fit its run."""


class Checkpoints:
    """The checkpoints of one work directory."""

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        keep_latest: int = 1,
        keep_best: int = 0,
        read_only: bool = False,
    ):
        """Opens (or creates) the checkpoints below `workdir`.

        Args:
            workdir: the run's directory.
            keep_latest: how many of the newest are kept.
            keep_best: how many of those with the highest AP are kept besides.
            read_only: never write.

        Raises:
            CheckpointError: `read_only`, and there is no such directory.
        """
        self._directory = paths.absolute(workdir) / "checkpoints"
        if read_only and not self._directory.is_dir():
            raise CheckpointError(self._nothing_there())
        policies: list[Any] = [checkpoint_managers.LatestN(keep_latest)]
        if keep_best:
            best = checkpoint_managers.BestN(
                get_metric_fn=_best_metric,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
            policies.append(best)
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "data": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                best_fn=_best_metric,  # without it metrics are not written at all
                read_only=read_only,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        """For `with`: closes at its end."""
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _nothing_there(self) -> str:
        return (
            f"{self._directory}: holds no checkpoint; train first (main.py --mode=train), or name"
            " the --workdir of a run."
        )

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, if there is one."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, position: int, metrics: dict[str, float] | None = None
    ) -> None:
        """Saves in the background.

        Args:
            state: the train state, after `state.step` steps.
            position: training examples consumed so far.
            metrics: those of an evaluation of this state, if there was one.
        """
        host = parallel.to_host(state)
        # A metric that is not a number cannot be ranked.
        ranked = metrics is not None and np.isfinite(metrics[BEST_METRIC])
        self._manager.save(
            int(host.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(host), data=ocp.args.JsonSave({"position": position})
            ),
            metrics=metrics if ranked else None,
            force=True,
        )

    def restore(self, like: TrainState, which: str = "latest") -> tuple[TrainState, int]:
        """A checkpoint and its data position.

        Args:
            like: a state of the same structure.
            which: "latest", "best" (highest AP with own scores), or a step.

        Raises:
            CheckpointError: there is none, or its parameters have other names or shapes.
        """
        step = self._find(which)
        saved = self._manager.item_metadata(step)["state"]
        _check_shapes(saved, like, f"{self._directory / str(step)}")
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(jax.tree.map(np.asarray, parallel.to_host(like))),
                data=ocp.args.JsonRestore(),
            ),
        )
        return restored["state"], restored["data"]["position"]

    def _find(self, which: str) -> int:
        steps = self._manager.all_steps()
        if not steps:
            raise CheckpointError(self._nothing_there())
        if which == "latest":
            return max(steps)
        if which == "best":
            best = self._manager.best_step()
            if best is not None:
                return best
        elif which.isdigit() and int(which) in steps:
            return int(which)
        raise CheckpointError(
            f"{self._directory}: has no checkpoint '{which}'; it has steps"
            f" {', '.join(map(str, sorted(steps)))}. Take 'latest', a step, or 'best' where"
            " training evaluated (eval_every)."
        )

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def _best_metric(metrics: dict[str, float]) -> float:
    return metrics[BEST_METRIC]


def _check_shapes(saved: Any, like: TrainState, where: str) -> None:
    def shapes(tree):
        flat, _ = jax.tree_util.tree_flatten_with_path(tree)
        return {
            jax.tree_util.keystr(path, simple=True, separator="/"): tuple(x.shape)
            for path, x in flat
        }

    found, expected = shapes(getattr(saved, "tree", saved)["params"]), shapes(like.params)
    problems = differences_of_arrays(found, expected)
    if problems:
        raise CheckpointError(
            f"{where}: was made with another network than its run.json describes: {sorted(problems)[0]}"
            f" ({len(problems)} differences). The two files do not belong together."
        )
