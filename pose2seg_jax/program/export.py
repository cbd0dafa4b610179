"""`--mode=export`: a network for programs without JAX, as ONNX, StableHLO or TFLite."""

import contextlib
import json
import logging
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export as jax_export

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import winograd
from pose2seg_jax.prediction import exports
from pose2seg_jax.prediction.exports import Graph
from pose2seg_jax.prediction.network import Network

METADATA = "metadata.json"
_PLATFORMS = ("cpu", "cuda", "tpu")
_OPSET = 21


def check(kind: str) -> None:
    """Checks `--format`, before anything is computed.

    Raises:
        UserError: it is unknown, or its package is missing.
    """
    if kind not in FORMATS:
        raise UserError(f"--format={kind}: is unknown; there are {', '.join(FORMATS)}.")
    FORMATS[kind].require()


def write(network: Network, variables: Any, kind: str, directory: pathlib.Path) -> list[str]:
    """Writes the graphs of a network into a directory; returns the names of the files. Nothing is written where one cannot be made.

    Args:
        network: the network.
        variables: its parameters and batch statistics.
        kind: of FORMATS.
        directory: that exists.

    Raises:
        UserError: a file cannot be written.
    """
    chosen = FORMATS[kind]
    poses = exports.pose_variables(network) if chosen.sorts else None
    made = exports.graphs(network, variables, poses)
    if not chosen.any_number:
        made = tuple(exports.with_persons(graph, 1) for graph in made)
    about = exports.metadata(network, made)
    contents: dict[str, str | bytes] = {METADATA: json.dumps(about, indent=1) + "\n"}
    contents |= {f"{graph.name}{chosen.suffix}": chosen.convert(graph, about) for graph in made}
    for name, content in contents.items():
        paths.write_atomically(directory / name, content)
    if poses is None:  # those that an earlier export left would not fit
        (directory / f"poses{chosen.suffix}").unlink(missing_ok=True)
    return list(contents)


def _to_stablehlo(graph: Graph, about: dict[str, Any]) -> bytes:
    """A serialised `jax.export.Exported`."""
    scope = jax_export.SymbolicScope()
    specs = [
        jax.ShapeDtypeStruct(
            jax_export.symbolic_shape(", ".join(map(str, array.shape)), scope=scope), array.dtype
        )
        for array in graph.inputs
    ]
    exported = jax_export.export(jax.jit(graph.function), platforms=_PLATFORMS)(*specs)
    return bytes(exported.serialize())


def _to_onnx(graph: Graph, about: dict[str, Any]) -> bytes:
    """An ONNX model, whose metadata holds `about`."""
    jax2onnx = _import_jax2onnx()
    # One warns of each constant without a type, the other of parts that it cannot load, for a package that is not needed.
    for name in ("onnx_ir", "jax2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It prints what it does with each layer.
    with contextlib.redirect_stdout(None), winograd.direct(True):
        model = jax2onnx.to_onnx(
            graph.function,
            [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in graph.inputs],
            model_name=graph.name,
            opset=_OPSET,
            input_names=[array.name for array in graph.inputs],
            output_names=[array.name for array in graph.outputs],
        )
    # The shapes of inner results that it declares contradict those that ONNX Runtime finds; on the web that is an error.
    del model.graph.value_info[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = "pose2seg_jax", json.dumps(about)
    return model.SerializeToString()


def _to_tflite(graph: Graph, about: dict[str, Any]) -> bytes:
    """A TFLite model; what it calls its outputs is TensorFlow's choice, but their order is that of the graph."""
    lite = _import_tensorflow().lite
    shapes: Any = [array.shape for array in graph.inputs]
    given = [
        (a.name, np.zeros(shape, a.dtype)) for a, shape in zip(graph.inputs, shapes, strict=True)
    ]
    with winograd.direct(True):
        converter = lite.TFLiteConverter.experimental_from_jax([graph.function], [given])
        return bytes(converter.convert())


def _import_tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError:
        raise UserError(
            "--format=tflite needs TensorFlow: pip install 'pose2seg_jax[train]'."
        ) from None
    return tensorflow


def _import_jax2onnx() -> Any:
    try:
        import jax2onnx
    except ImportError:
        raise UserError("--format=onnx needs jax2onnx: pip install 'pose2seg_jax[onnx]'.") from None
    return jax2onnx


class Format(NamedTuple):
    """What `--format` can be.

    Attributes:
        suffix: of its files.
        convert: makes the content of a file, of a graph and the metadata.
        require: raises a UserError where its package is missing.
        any_number: whether a file serves any number of persons; otherwise one at a time.
        sorts: whether it can sort, which the pose network needs.
    """

    suffix: str
    convert: Callable[[Graph, dict[str, Any]], bytes]
    require: Callable[[], Any] = lambda: None
    any_number: bool = True
    sorts: bool = True


FORMATS = {
    "onnx": Format(".onnx", _to_onnx, _import_jax2onnx),
    "stablehlo": Format(".stablehlo", _to_stablehlo),
    "tflite": Format(".tflite", _to_tflite, _import_tensorflow, any_number=False, sorts=False),
}
