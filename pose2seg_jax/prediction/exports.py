"""A trained network as pure functions of arrays, for programs without JAX: what `--mode=export` writes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pose2seg_jax.models import Features
from pose2seg_jax.people.parts import NUM_PARTS, PART_NAMES
from pose2seg_jax.prediction.network import Network, predict_rois
from pose2seg_jax.prediction.pose_estimators import movenet_poses
from pose2seg_jax.weights import movenet_files

FORMAT = "pose2seg_jax export 1"
# How an image is fitted into its square, by `NetworkSpec.sampling`.
_LETTERBOXES = {
    "pixel_centers": "scaled to whole pixels, rounded, so that it fits, and centred on black; by half a pixel where the rest is odd",
    "pixel_indices": "as the CVPR 2019 version does, by OpenCV's warpAffine (docs/coordinates.md)",
}
PERSONS = "n"  # the axis whose size, 1 or more, is chosen when a graph runs


class Array(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: of it.
        shape: its size along each axis; PERSONS for any number of persons but none.
        dtype: "uint8" or "float32".
        means: what it holds.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    means: str


class Graph(NamedTuple):
    """A function to export.

    Attributes:
        name: of its file.
        function: of as many arrays as there are inputs; returns a tuple.
        inputs: of the function.
        outputs: of the function.
    """

    name: str
    function: Callable[..., tuple[Any, ...]]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]


def graphs(network: Network, variables: Any, pose_variables: Any = None) -> tuple[Graph, ...]:
    """Returns what is exported of a network: `encode`, `segment` and, where MoveNet finds its poses, `poses`.

    Args:
        network: the network; `network.flip` is not exported.
        variables: its parameters and batch statistics.
        pose_variables: of MoveNet; None to leave `poses` out.
    """
    network = dataclasses.replace(network, flip=False, dtype="float32")
    variables = jax.device_get(variables)
    encoded = _encode(network, variables)
    made = [encoded, _segment(network, variables, encoded.outputs)]
    if pose_variables is not None:
        made.append(_poses(jax.device_get(pose_variables)))
    return tuple(made)


def with_persons(graph: Graph, count: int) -> Graph:
    """Returns the graph for a fixed number of persons."""

    def fixed(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(
            array._replace(shape=tuple(count if n == PERSONS else n for n in array.shape))
            for array in arrays
        )

    return graph._replace(inputs=fixed(graph.inputs), outputs=fixed(graph.outputs))


def pose_variables(network: Network) -> Any:
    """Returns MoveNet's parameters; None where the network has pose heads of its own, whose decoding is not exported."""
    return None if network.spec.finds_poses else movenet_files.load()


def metadata(network: Network, made: Sequence[Graph]) -> dict[str, Any]:
    """Returns what a program must know to use the graphs, ready for JSON."""
    spec = network.spec
    poses = {
        "pose_image_size": movenet_poses.SIDES[0],
        "part_score_threshold": movenet_poses.PART_SCORE_THRESHOLD,
        "person_score_threshold": movenet_poses.PERSON_SCORE_THRESHOLD,
    }
    return {
        "format": FORMAT,
        "image": f"RGB. Letterboxed to {spec.image_size} pixels: {_LETTERBOXES[spec.sampling]}. `poses` has a square of its own.",
        "coordinates": "x to the right and y down, in pixels of the image before letterboxing; the centre of the first pixel is (0.5, 0.5).",
        "sampling": spec.sampling,
        "image_size": spec.image_size,
        "roi_size": spec.roi_size,
        "parts": list(PART_NAMES),
        "visibility": "0 missing, 1 hidden, 2 visible",
        **(poses if any(graph.name == "poses" for graph in made) else {}),
        "mask": "Where a person's probability, taken to the image by `matrices`, exceeds 0.5; of several persons, the one with the highest"
        " probability times pose score.",
        "graphs": {
            graph.name: {
                "inputs": [array._asdict() for array in graph.inputs],
                "outputs": [array._asdict() for array in graph.outputs],
            }
            for graph in made
        },
    }


def _encode(network: Network, variables: Any) -> Graph:
    side = network.spec.image_size

    def encode(image: Any) -> tuple[Any, ...]:
        return tuple(jax.tree.leaves(network.encode(variables, image)))

    image = Array("image", (1, side, side, 3), "uint8", "the letterboxed image")
    made = jax.eval_shape(encode, jax.ShapeDtypeStruct(image.shape, jnp.uint8))
    features = tuple(
        Array(f"features{i}", values.shape, "float32", "for `segment`")
        for i, values in enumerate(made)
    )
    return Graph("encode", encode, (image,), features)


def _segment(network: Network, variables: Any, features: tuple[Array, ...]) -> Graph:
    spec = network.spec
    image = jax.ShapeDtypeStruct((1, spec.image_size, spec.image_size, 3), jnp.uint8)
    structure = jax.tree.structure(jax.eval_shape(lambda x: network.encode(variables, x), image))

    def segment(*arrays: Any) -> tuple[Any, ...]:
        *leaves, poses, size = arrays
        found: Features = jax.tree.unflatten(structure, leaves)
        count = poses.shape[0]
        sizes = jnp.broadcast_to(size[None], (count, 2))
        index, valid = jnp.zeros(count, jnp.int32), jnp.ones(count, bool)
        rois = predict_rois(network, variables, found, poses, sizes, index, valid)
        return rois.probabilities, rois.scores, rois.alignment.matrix

    poses = Array("poses", (PERSONS, NUM_PARTS, 3), "float32", "x, y and visibility of the parts")
    size = Array("size", (2,), "float32", "height and width of the image")
    padding = spec.convention.pad_roi(np.zeros((1, spec.roi_size, spec.roi_size), np.float32), np.zeros((1, 2, 3), np.float32))  # fmt: skip
    side = padding[0].shape[-1]
    outputs = (
        Array(
            "probabilities", (PERSONS, side, side), "float32", "of each person's mask in the ROI"
        ),
        Array("scores", (PERSONS,), "float32", "the IoU that the network expects of each mask"),
        Array("matrices", (PERSONS, 2, 3), "float32", "from the image to the ROI, in cells"),
    )
    return Graph("segment", segment, (*features, poses, size), outputs)


def _poses(variables: Any) -> Graph:
    side = movenet_poses.SIDES[0]

    def poses(image: Any, size: Any) -> tuple[Any, ...]:
        found = movenet_poses.find_people(variables, [image], size)
        return found.points, found.part_scores, jnp.sqrt(found.scores)

    image = Array(
        "image", (1, side, side, 3), "uint8", "the image, letterboxed to a square of its own"
    )
    size = Array("size", (2,), "float32", "height and width of the image")
    shapes = jax.eval_shape(poses, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (image, size)))
    outputs = (
        Array(
            "points", shapes[0].shape, "float32", "x and y of the parts, the surest person first"
        ),
        Array("part_scores", shapes[1].shape, "float32", "how sure each part is"),
        Array("scores", shapes[2].shape, "float32", "how sure each person is; 0 for nobody"),
    )
    return Graph("poses", poses, (image, size), outputs)
