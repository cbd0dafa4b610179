"""What a run is, beside its checkpoints: run.json, written at the start and when something changes.

Parameters fit many networks, but give wrong masks with all but their own; and a run that goes on with other data or
another seed is no run that anybody could repeat. So what must not change is refused by name, and what may change
is written down with the step from which it holds.
"""

import json
import os
from typing import Any, NamedTuple

import ml_collections
from flax import traverse_util

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec

_FORMAT = "pose2seg_jax run 3"
_FILE = "run.json"
# Without these a run would not be the same run; the network and the data's content are compared beside them.
_FIXED = ("seed", "batch_size", "persons_per_batch", "init_weights", "optimizer.schedule")


class RunError(UserError):
    """A directory that holds no run, or a run that cannot go on as it was asked to."""


class RunRecord(NamedTuple):
    """What a run is.

    Attributes:
        spec: its network.
        config: the experiment as the run was started with.
        data: names the content of the training data.
        changes: [{"step": from which on, "fields": {name: [before, after]}}], in order.
    """

    spec: NetworkSpec
    config: dict[str, Any]
    data: str
    changes: list[dict[str, Any]]

    @property
    def current(self) -> dict[str, Any]:
        """The experiment with all changes: fields by name, as "optimizer.learning_rate"."""
        fields = flat(self.config)
        for change in self.changes:
            fields |= {name: after for name, (_, after) in change["fields"].items()}
        return fields

    def config_dict(self) -> ml_collections.ConfigDict:
        """Returns the experiment with all changes."""
        return ml_collections.ConfigDict(traverse_util.unflatten_dict(self.current, sep="."))

    def write(self, workdir: str | os.PathLike) -> None:
        """Writes run.json of a run."""
        content = {"format": _FORMAT, "network": self.spec.to_dict()} | {
            name: getattr(self, name) for name in ("config", "data", "changes")
        }
        directory = paths.resolve(workdir)
        directory.mkdir(parents=True, exist_ok=True)
        paths.write_atomically(directory / _FILE, json.dumps(content, indent=1) + "\n")

    def go_on(
        self, config: ml_collections.ConfigDict, spec: NetworkSpec, data: str, step: int
    ) -> "RunRecord":
        """Returns the record of the run that goes on with a config from a step.

        Raises:
            RunError: the config would make it another run; the message names the fields.
        """
        now, before = flat(json.loads(config.to_json())), self.current
        different = [
            name
            for name in sorted(now.keys() | before.keys())
            if now.get(name) != before.get(name)
            and not name.startswith("model.")  # compared as a spec
        ]
        fixed = set(_FIXED)
        if before.get("optimizer.schedule") == "cosine":  # its rate would jump
            fixed.add("num_steps")
        refused = [f"model.{d}" for d in self.spec.differences(spec)]
        refused += [f"{n}: {before.get(n)}, {now.get(n)}" for n in different if n in fixed]
        if data != self.data:
            refused.append(f"content of the training data: {self.data}, {data}")
        if refused:
            raise RunError(
                "this run was started otherwise (its value, the one asked for now):"
                f" {'; '.join(refused)}. Leave these as they were, or name another --workdir; with"
                " --config.init_weights a new run starts from exported weights."
            )
        fields = {name: [before.get(name), now.get(name)] for name in different}
        if not fields:
            return self
        return self._replace(changes=[*self.changes, {"step": step, "fields": fields}])


def new(config: ml_collections.ConfigDict, spec: NetworkSpec, data: str) -> RunRecord:
    """Returns the record of a run that starts."""
    return RunRecord(spec, json.loads(config.to_json()), data, [])


def read(workdir: str | os.PathLike) -> RunRecord:
    """Reads the record of a run.

    Raises:
        RunError: there is none, or it cannot be read.
    """
    path = paths.resolve(workdir) / _FILE
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {_FORMAT!r}")
        spec = NetworkSpec.from_dict(content["network"])
        return RunRecord(spec, content["config"], content["data"], content["changes"])
    except FileNotFoundError:
        raise RunError(
            f"{path}: is missing: no run was started there. Train first (main.py --mode=train), or name the"
            " --workdir of a run."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}); it belongs to the checkpoints next to it."
        ) from None


def flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns nested fields by their names as flags, as {"optimizer.learning_rate": ...}."""
    return traverse_util.flatten_dict(fields, sep=".")
