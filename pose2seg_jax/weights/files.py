"""A trained network as one safetensors file: parameters, templates, config, conventions, origin.

No pickle: reading a file runs nothing of it. Tensors are named as in Flax ("params/backbone/...",
"batch_stats/..."); the rest is JSON in the file's metadata.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.models.pose2seg import MEAN, STD
from pose2seg_jax.people import parts
from pose2seg_jax.training import train_state

_FORMAT = "pose2seg_jax weights 2"
# The model of the package (docs/model_card.md).
SHIPPED = pathlib.Path(__file__).with_name("coco_human_lite.safetensors")
# What parameters take for granted and no shape shows.
_CONVENTIONS = {
    "pixel_centers": 0.5,
    "channels": "RGB",
    "mean": list(MEAN),
    "std": list(STD),
    "parts": list(parts.PART_NAMES),
}


class WeightsError(UserError):
    """A weights file that cannot be used; the message names it and says why."""


class Weights(NamedTuple):
    """A trained network.

    Attributes:
        config: the fields that the network needs: model, dataset.image_size, align.reflect,
            align.method.
        variables: what `Pose2Seg.apply` takes.
        templates: (K, P, 3), those it was trained with.
        provenance: where it comes from, as its maker wrote it.
    """

    config: ml_collections.ConfigDict
    variables: Any
    templates: Array
    provenance: dict[str, Any]


def save(
    path: str | pathlib.Path,
    config: ml_collections.ConfigDict,
    variables: Any,
    pose_templates: Array,
    provenance: Mapping[str, Any],
) -> None:
    """Writes a file that `load` reads.

    Args:
        path: of the file.
        config: the experiment.
        variables: parameters and batch statistics.
        pose_templates: the templates that it was trained with.
        provenance: data, command, steps: whatever tells where it comes from.
    """
    content = {
        "format": _FORMAT,
        "conventions": _CONVENTIONS,
        "config": _network_fields(config),
        "provenance": dict(provenance),
    }
    tensors = {
        name: np.ascontiguousarray(value)
        for name, value in traverse_util.flatten_dict(variables, sep="/").items()
    }
    tensors["templates"] = np.ascontiguousarray(pose_templates, np.float32)
    partial = pathlib.Path(f"{path}.partial")
    metadata = {"pose2seg_jax": json.dumps(content)}
    safetensors.numpy.save_file(tensors, partial, metadata)
    partial.replace(path)


def load(path: str | pathlib.Path | None = None) -> Weights:
    """Reads and checks a weights file.

    Args:
        path: of the file; None for the model of the package (docs/model_card.md).

    Raises:
        WeightsError: missing, truncated, of another program, model or convention.
    """
    path = pathlib.Path(path or SHIPPED)
    try:
        with safetensors.safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}.") from None
    except safetensors.SafetensorError as error:
        start = path.read_bytes()[:2]
        what = (
            "is a pickle or a PyTorch file, of which nothing is run here; main.py --mode=convert_weights"
            " --from=FILE reads the authors' weights and ImageNet's"
            if start in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
            else "is truncated, or no safetensors file"
        )
        raise WeightsError(f"{path}: {what} ({error}).") from None
    try:
        content = json.loads(metadata["pose2seg_jax"])
    except (KeyError, ValueError):
        content = {}
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        raise WeightsError(
            f"{path}: is not '{_FORMAT}', but {found or 'of another program'}; make"
            " one with main.py --mode=export_weights."
        )
    try:
        return _checked(path, content, tensors)
    except (KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path}: its metadata is incomplete ({error!r}).") from None


def load_for(config: ml_collections.ConfigDict, path: str | pathlib.Path) -> Any:
    """The variables of a weights file for the network of a config, to train on from.

    The network may differ in dtype, backbone_shrink and image_size; pose templates and reflection
    are the config's.

    Raises:
        WeightsError: as `load`, and where the file is of another network.
    """
    loaded = load(path)
    free = {"model.dtype", "model.backbone_shrink", "dataset.image_size", "align.reflect"}
    wanted, found = map(_flat_network_fields, (config, loaded.config))
    for name in sorted(wanted.keys() - free):
        if wanted[name] != found.get(name):
            raise WeightsError(
                f"{path}: is of a network with {name}={found.get(name)}, but the config says"
                f" {wanted[name]}; use the config that it was made with."
            )
    return loaded.variables


def load_unchanged(
    config: ml_collections.ConfigDict,
    path: str | pathlib.Path | None,
    changes: Mapping[str, Any],
    same_network: bool = False,
) -> Weights:
    """Reads a weights file, to compute in the dtype of a config.

    Args:
        config: what the user named; its network gives way to that of the file.
        path: as `load`.
        changes: the fields that the user set, as {"model.roi_size": 32}.
        same_network: whether the config must be of the file's network.

    Raises:
        WeightsError: as `load`, and where what the user named would silently have no effect.
    """
    loaded = load(path)
    named, network = map(_flat_network_fields, (config, loaded.config))
    for name, value in changes.items():
        of_network = name == "dataset.image_size" or name.startswith(("model.", "align."))
        if of_network and name != "model.dtype" and network.get(name) != value:
            raise WeightsError(
                f"--config.{name}={value}: belongs to the network, which comes with the weights as it"
                " is; leave it out."
            )
    if same_network and any(named[k] != v for k, v in network.items() if k != "model.dtype"):
        raise WeightsError(
            "--config is of another network than the package's; name a run of it with --workdir or"
            " its file with --weights, or leave --config out."
        )
    return loaded._replace(config=with_network(config, loaded))


def _checked(
    path: pathlib.Path, content: dict[str, Any], tensors: dict[str, np.ndarray]
) -> Weights:
    for name, ours in _CONVENTIONS.items():
        if content["conventions"].get(name) != ours:
            raise WeightsError(
                f"{path}: was trained with {name} {content['conventions'].get(name)}, but this"
                f" program has {ours}; masks would be wrong."
            )
    # Of files from before there was another.
    content["config"]["model"] = train_state.ADDED_MODEL_FIELDS | content["config"]["model"]
    content["config"]["model"]["backbone_shrink"] *= 1.0  # was a whole number
    config = ml_collections.ConfigDict(content["config"])
    pose_templates = tensors.pop("templates", None)
    _check_names(path, config, tensors)
    if pose_templates is None or pose_templates.shape[1:] != (len(parts.PART_NAMES), 3):
        raise WeightsError(f"{path}: has no 'templates' of shape (K, 17, 3).")
    variables = traverse_util.unflatten_dict(tensors, sep="/")
    return Weights(config, variables, pose_templates, content["provenance"])


def with_network(config: ml_collections.ConfigDict, loaded: Weights) -> ml_collections.ConfigDict:
    """A copy of a config whose network is the one of the weights; it computes in the config's dtype."""
    copy = config.copy_and_resolve_references()
    copy.update(_network_fields(loaded.config))
    copy.model.dtype = config.model.dtype
    return copy


def _network_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    return {
        "model": json.loads(config.model.to_json()),
        "dataset": {"image_size": config.dataset.image_size},
        "align": {"reflect": config.align.reflect, "method": config.align.method},
    }


def _flat_network_fields(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The same by their names as flags, as "model.roi_size"."""
    return traverse_util.flatten_dict(_network_fields(config), sep=".")


def _check_names(
    path: pathlib.Path, config: ml_collections.ConfigDict, tensors: dict[str, np.ndarray]
) -> None:
    model = train_state.create_model(config)
    shapes = train_state.variable_shapes(config, model)
    expected = traverse_util.flatten_dict(shapes, sep="/")
    problems = train_state.misfits(
        {name: tensor.shape for name, tensor in tensors.items()},
        {name: shape.shape for name, shape in expected.items()},
    )
    problems += [
        f"{name} holds values that are not finite"
        for name in sorted(expected.keys() & tensors.keys())
        if not np.all(np.isfinite(tensors[name]))
    ]
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise WeightsError(f"{path}: does not fit its model: {'; '.join(problems[:10])}{more}.")
