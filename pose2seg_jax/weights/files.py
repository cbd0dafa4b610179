"""A trained network as one safetensors file: parameters, `NetworkSpec`, conventions, origin.

No pickle: reading a file runs nothing of it. Tensors are named as in Flax ("params/backbone/...",
"batch_stats/..."); the rest is JSON in the file's metadata.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from flax import traverse_util
from jaxtyping import Key

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.models.layers import MEAN, STD
from pose2seg_jax.models.variables import differences_of_arrays, init_variables, variable_shapes
from pose2seg_jax.people.parts import PART_NAMES

_FORMAT = "pose2seg_jax weights 5"
# The model of the package (docs/model_card.md).
PACKAGED = epath.Path(__file__).with_name("coco_human_lite.safetensors")
# What parameters take for granted, no shape shows and no spec can change.
_CONVENTIONS = {
    "pixel_centers": 0.5,
    "channels": "RGB",
    "mean": list(MEAN),
    "std": list(STD),
    "parts": list(PART_NAMES),
}
# How the files begin for which people take PyTorch's.
_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class WeightsError(UserError):
    """A weights file that cannot be used; the message names it and says why."""


class Weights(NamedTuple):
    """A trained network.

    Attributes:
        spec: what the network is.
        variables: what `Pose2Seg.apply` takes.
        provenance: where it comes from, as its maker wrote it.
    """

    spec: NetworkSpec
    variables: Any
    provenance: dict[str, Any]

    def fingerprint(self) -> str:
        """Returns a name of the network's spec and numbers: two networks that predict the same have the same."""
        digest = hashlib.sha256(self.spec.to_json().encode())
        for name, value in sorted(traverse_util.flatten_dict(self.variables, sep="/").items()):
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return digest.hexdigest()


def save(path: str | os.PathLike, weights: Weights) -> None:
    """Writes a file that `load` reads; an existing one is replaced when the new one is complete."""
    content = {
        "format": _FORMAT,
        "conventions": _CONVENTIONS,
        "network": weights.spec.to_dict(),
        "provenance": weights.provenance,
    }
    tensors = {
        name: np.ascontiguousarray(value)
        for name, value in traverse_util.flatten_dict(weights.variables, sep="/").items()
    }
    data = safetensors.numpy.save(tensors, {"pose2seg_jax": json.dumps(content)})
    paths.write_atomically(path, data)


def load(path: str | os.PathLike | None = None) -> Weights:
    """Reads and checks a weights file.

    Args:
        path: of the file; None for the model of the package (docs/model_card.md), whose arrays are taken for granted.

    Raises:
        WeightsError: missing, truncated, of another program, network or convention.
    """
    file = paths.resolve(path or PACKAGED)
    try:
        with paths.fetched(file) as local, safetensors.safe_open(local, "numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error}.") from None
    except safetensors.SafetensorError as error:
        what = (
            "is a pickle or a PyTorch file, of which nothing is run here; main.py --mode=convert_weights"
            " --from=FILE reads the authors' weights and ImageNet's"
            if file.read_bytes()[:2] in _PICKLES
            else "is truncated, or no safetensors file"
        )
        raise WeightsError(f"{file}: {what} ({error}).") from None
    try:
        content = json.loads(metadata["pose2seg_jax"])
    except (KeyError, ValueError, RecursionError):
        content = {}
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        raise WeightsError(
            f"{file}: is not '{_FORMAT}', but {found or 'of another program'}; make"
            " one with main.py --mode=export_weights."
        )
    for name, ours in _CONVENTIONS.items():
        conventions = content.get("conventions")
        theirs = conventions.get(name) if isinstance(conventions, dict) else None
        if theirs != ours:
            raise WeightsError(
                f"{file}: was trained with {name} {theirs}, but this program has {ours}; masks would"
                " be wrong."
            )
    try:
        spec = NetworkSpec.from_dict(content.get("network"))
    except UserError as error:
        raise WeightsError(f"{file}: its metadata describes no network: {error}") from None
    # To trace a network takes a second. A test checks the model of the package.
    if path is not None:
        _check_tensors(file, spec, tensors)
    variables = traverse_util.unflatten_dict(tensors, sep="/")
    return Weights(spec, variables, content.get("provenance") or {})


def load_to_train_on(spec: NetworkSpec, path: str | os.PathLike, key: Key[jax.Array, ""]) -> Any:
    """Returns the variables of a weights file, for a network whose training starts from them.

    The sizes of the images and the alignment may differ, since parameters can learn new ones. A segmentation branch or pose heads
    that the file does not have start at random.

    Args:
        spec: the network.
        path: the file.
        key: of the random values.

    Raises:
        WeightsError: as `load`, and where the file is of another network.
    """
    loaded = load(path)
    free = ["image_size", "backbone_image_size", "alignment."]
    if not (spec.segments and loaded.spec.segments):
        free += ["branch.", "image_in_roi", "roi_size", "roi_stride", "skeleton_features"]
    if not (spec.finds_poses and loaded.spec.finds_poses):
        free += ["pose_head."]
    differences = [d for d in loaded.spec.differences(spec) if not d.startswith(tuple(free))]
    if differences:
        raise WeightsError(
            f"{path}: is of another network than config.model (the file's value, the config's):"
            f" {'; '.join(differences)}. Use the config that it was made with."
        )
    found = traverse_util.flatten_dict(loaded.variables, sep="/")
    wanted = traverse_util.flatten_dict(variable_shapes(spec), sep="/")
    if wanted.keys() - found.keys():  # else nothing need be compiled
        found = traverse_util.flatten_dict(init_variables(spec, key), sep="/") | found
    return traverse_util.unflatten_dict({name: found[name] for name in wanted}, sep="/")


def _check_tensors(file: Any, spec: NetworkSpec, tensors: Mapping[str, np.ndarray]) -> None:
    expected = traverse_util.flatten_dict(variable_shapes(spec), sep="/")
    problems = differences_of_arrays(
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
        raise WeightsError(f"{file}: does not fit its network: {'; '.join(problems[:10])}{more}.")
