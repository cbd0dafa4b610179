"""Checkpoints of a training run: the only place with Orbax.

A checkpoint holds the train state and how far the run is. It becomes visible only when complete, so a run that is
killed while writing goes on from the one before.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from pose2seg_jax import parallel, paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.models.variables import differences_of_arrays
from pose2seg_jax.training.state import TrainState

BEST_METRIC = "AP"


class CheckpointError(UserError):
    """There is no checkpoint, or it does not fit its run."""


class Progress(NamedTuple):
    """How far a run is, beside its state.

    Attributes:
        position: training examples consumed so far.
        skipped: steps so far that changed nothing, because their loss or gradient was no number.
        owes_evaluation: whether this step is one to evaluate after, and the process was asked to end before that was done.
    """

    position: int
    skipped: int = 0
    owes_evaluation: bool = False


class Checkpoints:
    """The checkpoints of one work directory.

    Attributes:
        incomplete: steps of which an earlier process left a part of a checkpoint, since it was killed while writing. The
            parts are removed, unless this object is for reading only.
    """

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
        left_over = _incomplete(self._directory)
        self.incomplete = sorted(left_over)
        if not read_only and parallel.processes()[0] == 0:
            for entry in left_over.values():
                entry.rmtree(missing_ok=True)
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
        self, state: TrainState, progress: Progress, metrics: dict[str, float] | None = None
    ) -> None:
        """Saves in the background.

        Args:
            state: the train state, after `state.step` steps.
            progress: how far the run is.
            metrics: those of an evaluation of this state, if there was one.

        Raises:
            CheckpointError: this one or the one before cannot be written.
        """
        host = parallel.to_host(state)
        # A metric that is not a number cannot be ranked.
        ranked = metrics is not None and np.isfinite(metrics[BEST_METRIC])
        with self._writing():
            self._manager.save(
                int(host.step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(host), data=ocp.args.JsonSave(progress._asdict())
                ),
                metrics=metrics if ranked else None,
                force=True,
            )

    def restore(self, like: TrainState, which: str = "latest") -> tuple[TrainState, Progress]:
        """A checkpoint, and how far the run was.

        Args:
            like: a state of the same structure.
            which: "latest", "best" (highest AP with own scores), or a step.

        Raises:
            CheckpointError: there is none, it cannot be read, or its parameters have other names or shapes.
        """
        step = self._find(which)
        target = jax.tree.map(np.asarray, parallel.to_host(like))
        try:
            saved = self._manager.item_metadata(step)["state"]
            _check_shapes(saved, like, f"{self._directory / str(step)}")
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
                ),
            )
            return restored["state"], Progress(**restored["data"])
        except CheckpointError:
            raise
        except Exception as error:  # Orbax and its storage raise errors of many kinds
            if parallel.is_loss_of_a_process(error):
                raise
            if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
                raise CheckpointError(
                    f"{self._directory / str(step)}: cannot be read: {error.strerror}."
                ) from None
            raise CheckpointError(
                f"{self._directory / str(step)}: is damaged and cannot be read ({_first_line(error)}). Move this folder"
                " away; the same command then goes on from the checkpoint before it, if there is one."
            ) from None

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

    def wait(self) -> None:
        """Waits until everything is written.

        Raises:
            CheckpointError: a checkpoint cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits until everything is written, and closes.

        Raises:
            CheckpointError: a checkpoint cannot be written.
        """
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # it has been told
                self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax and its storage raise errors of many kinds
            if parallel.is_loss_of_a_process(error):
                raise
            raise CheckpointError(
                f"{self._directory}: a checkpoint cannot be written ({_first_line(error)}). The complete ones are as they"
                " were. Make room or permit writing; the same command then goes on from the newest."
            ) from None


def _incomplete(directory: epath.Path) -> dict[int, epath.Path]:
    """The checkpoints that were never completed, by their steps."""
    if not directory.is_dir():
        return {}
    parts = [
        (entry, entry.name.partition(".orbax-checkpoint-tmp")) for entry in directory.iterdir()
    ]
    return {int(step): entry for entry, (step, mark, _) in parts if mark and step.isdigit()}


def _first_line(error: Exception) -> str:
    """The beginning of what a library says of an error."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}..."


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
