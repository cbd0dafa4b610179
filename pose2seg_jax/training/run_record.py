"""What a run was started with, beside its checkpoints: config.json and templates.json.

Both are read again before a checkpoint is used: parameters fit many configs, but give wrong masks
with all but their own.
"""

import json
import pathlib
from typing import Any

import ml_collections
import numpy as np

from pose2seg_jax.alignment import templates
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.training import train_state
from pose2seg_jax.training.checkpoints import CheckpointError

# What the parameters depend on; model.dtype may change.
_FIXED = ("model.", "dataset.image_size", "align.reflect", "align.method")
_FREE = ("model.dtype",)


def write(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> None:
    """Records a config and the content of its template file."""
    directory = pathlib.Path(workdir)
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / "config.json", json.dumps(_fields(config), indent=1) + "\n")
    _write(directory / "templates.json", templates.source(config.align.templates).read_text())


def read(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> Array:
    """The templates of a run, after a check that `config` describes its network.

    Returns:
        (K, P, 3), see `templates.load`.

    Raises:
        CheckpointError: a record is missing, or the config is another one.
    """
    path = pathlib.Path(workdir) / "config.json"
    try:
        before = _flat(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error}); it belongs to the checkpoints next to it."
        ) from None
    # Of runs from before there was another.
    added = {f"model.{name}": value for name, value in train_state.ADDED_MODEL_FIELDS.items()}
    before = {"align.method": "pose"} | added | before
    now = _flat(_fields(config))
    for name in sorted(now.keys() | before.keys()):
        if not name.startswith(_FIXED) or name in _FREE or now.get(name) == before.get(name):
            continue
        raise CheckpointError(
            f"{path.parent}: was trained with {name}={before.get(name)}, but the config says"
            f" {now.get(name)}. Use the config of that run (its config.json), or another --workdir."
        )
    record = path.with_name("templates.json")
    trained = templates.load(record)
    named = config.align.templates
    # The file may have gone; the run has its own copy.
    if (
        named
        and (named in templates.PACKAGED or pathlib.Path(named).exists())
        and not np.array_equal(templates.load(named), trained)
    ):
        raise CheckpointError(
            f"{named}: are not the templates that the run was trained with, {record}; leave"
            " align.templates out, or use another --workdir."
        )
    return trained


def _write(path: pathlib.Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def _fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json())


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
