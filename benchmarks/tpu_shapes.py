"""What the channels of each config cost on a TPU, on paper.

    python -m benchmarks.tpu_shapes

A TPU multiplies matrices of 128 x 128; a convolution of 24 channels is one of 128 whose rest is zeros. For the products and
convolutions of the backbone and of the segmentation branch this counts the operations that are wanted, and those of
the padded shapes. What is no product (depthwise layers as shifted images, AffineAlign) is left out. Nothing is run.
"""

import importlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

from benchmarks import rows
from pose2seg_jax.models import NetworkSpec, Pose2Seg, winograd
from pose2seg_jax.models.variables import variable_shapes

_CONFIGS = ("coco_human_lite", "coco_human", "coco_human_lean", "coco_human_r50fpn", "coco_human_compact", "coco_human_small")  # fmt: skip
_LANES, _SUBLANES = 128, 8
_PERSONS = 16


def products(jaxpr: Any, times: int = 1) -> Iterator[tuple[float, float]]:
    """Yields the operations of every product and convolution, as they are and padded."""
    for equation in jaxpr.eqns:
        repeated = times * equation.params.get("length", 1) if equation.primitive.name == "scan" else times  # fmt: skip
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from products(inner, repeated)
        if equation.primitive.name == "dot_general":
            rows_, columns, depth, batch = _sizes_of_product(equation)
        elif equation.primitive.name == "conv_general_dilated":
            if equation.params["feature_group_count"] > 1:
                continue
            rows_, columns, depth, batch = _sizes_of_convolution(equation)
        else:
            continue
        wanted = 2.0 * times * batch * rows_ * columns * depth
        padded = 2.0 * times * batch * _up(rows_, _SUBLANES) * _up(columns, _LANES) * _up(depth, _LANES)  # fmt: skip
        yield wanted, padded


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _sizes_of_product(equation: Any) -> tuple[int, int, int, int]:
    """Rows, columns, depth, and how many there are."""
    (contracted, _), (batch, _) = equation.params["dimension_numbers"]
    left, right = (variable.aval.shape for variable in equation.invars)
    depth = math.prod(left[axis] for axis in contracted)
    count = math.prod(left[axis] for axis in batch)
    return math.prod(left) // depth // count, math.prod(right) // depth // count, depth, count


def _sizes_of_convolution(equation: Any) -> tuple[int, int, int, int]:
    """As one product for each place of the kernel."""
    numbers = equation.params["dimension_numbers"]
    kernel, result = equation.invars[1].aval.shape, equation.outvars[0].aval.shape
    columns, depth, *places = (kernel[axis] for axis in numbers.rhs_spec)
    return math.prod(result) // columns, columns, depth, math.prod(places)


def _rows_of(name: str) -> Iterator[rows.Row]:
    spec = NetworkSpec.from_config(importlib.import_module(f"configs.{name}").get_config().model)
    model, variables = Pose2Seg(spec), variable_shapes(spec)
    side = spec.image_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)
    poses = jax.ShapeDtypeStruct((_PERSONS, 17, 3), jnp.float32)
    matrices = jax.ShapeDtypeStruct((_PERSONS, 2, 3), jnp.float32)
    index = jnp.zeros(_PERSONS, jnp.int32)

    def encode(variables: Any, image: Any) -> Any:
        return model.apply(variables, image, method="encode")

    def segment(variables: Any, features: Any, poses: Any, matrices: Any) -> Any:
        return model.apply(
            variables, features, poses, matrices, index, jnp.ones(_PERSONS, bool), method="segment"
        )

    features = jax.eval_shape(encode, variables, image)
    with winograd.direct(True):
        encoding = jax.make_jaxpr(encode)(variables, image)
        segmenting = jax.make_jaxpr(segment)(variables, features, poses, matrices)
    for what, count, traced in (
        ("backbone, an image", 1, encoding),
        ("branch, a person", _PERSONS, segmenting),
    ):
        wanted, padded = map(sum, zip(*products(traced.jaxpr), strict=True))
        yield rows.Row(name, what, wanted / count / 1e9, "GFLOP", "padded", padded / count / 1e9)


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    rows.publish([row for name in _CONFIGS for row in _rows_of(name)], options)


if __name__ == "__main__":
    rows.run(main)
