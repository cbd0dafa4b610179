"""The stages of the network beside their floors.

    python -m benchmarks.stages [--config=configs/coco_human.py]

Backbone and segmentation of an untrained network on made-up data, beside the time that as many
operations (XLA's count) take in one large matrix product; AffineAlign and Skeleton Features, parts of
segmentation, beside an operation that reads and writes as much as they write.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import rows
from benchmarks.prediction import random_poses
from benchmarks.training import matrix_rate
from pose2seg_jax.alignment import affine_align, geometry, sampling, skeleton
from pose2seg_jax.models import Pose2Seg, winograd
from pose2seg_jax.models.network_spec import STRIDE
from pose2seg_jax.people import parts

_REPEATS = 7
_PERSONS = 8


def measured(function: Callable[..., Any], *arguments: Any) -> tuple[float, float]:
    """Returns the seconds and the operations of a compiled call; those that Winograd saves are counted."""
    made: Any = jax.jit(function).lower(*arguments).compile()
    taken = rows.seconds(lambda: jax.block_until_ready(made(*arguments)), _REPEATS)
    with winograd.direct(True):
        plain: Any = jax.jit(function).lower(*arguments)
    return taken, plain.cost_analysis()["flops"]


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    config = rows.load_config(options)
    network = rows.network(config)
    variables, spec = network.variables, network.spec
    model = Pose2Seg(spec, dtype=config.dtype)
    side, roi = spec.image_size, spec.roi_size
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (1, side, side, 3), np.uint8)
    poses = jnp.asarray(random_poses(rng, _PERSONS, side, side), jnp.float32)
    sizes = jnp.full((_PERSONS, 2), side, jnp.float32)
    index, valid = jnp.zeros(_PERSONS, jnp.int32), jnp.ones(_PERSONS, bool)
    matrices = affine_align.align_poses(poses, spec.template_array, sizes, roi).matrix

    def encode(variables: Any, image: jax.Array) -> Any:
        return model.apply(variables, image, method="encode")

    def segment(variables: Any, features: Any, poses: jax.Array, matrices: jax.Array) -> Any:
        return model.apply(variables, features, poses, matrices, index, valid, method="segment")

    cells = roi // spec.roi_stride
    to_cells = geometry.compose(geometry.scaling(1 / spec.roi_stride), matrices)

    def align(maps: jax.Array, matrices: jax.Array) -> jax.Array:
        return sampling.align_to_roi(maps, index, matrices, cells)

    limbs = spec.limbs or parts.PAPER_LIMBS

    def draw(poses: jax.Array, matrices: jax.Array) -> jax.Array:
        placed = geometry.apply_to_poses(matrices, poses)
        return skeleton.skeleton_features(placed, cells, limbs)

    features = jax.jit(encode)(variables, image)
    stride = STRIDE * side / spec.backbone_image_size
    from_features = spec.convention.from_features(to_cells, stride, features.maps.shape[1])
    rate = matrix_rate(config.dtype)

    def product(what: str, count: int, function: Callable[..., Any], *arguments: Any) -> rows.Row:
        taken, operations = (value / count for value in measured(function, *arguments))
        beside = f"{operations / 1e9:.3g} GFLOP at {rate / 1e9:.0f} GFLOP/s"
        return rows.Row("stage", what, 1e3 * taken, "ms", beside, 1e3 * operations / rate)

    def copy(what: str, function: Callable[..., Any], *arguments: Any) -> rows.Row:
        taken, _ = measured(function, *arguments)
        copying, _ = measured(lambda x: 2 * x, jax.jit(function)(*arguments))
        return rows.Row("stage", what, 1e3 * taken, "ms", "doubling what it writes", 1e3 * copying)

    rows.publish(
        [
            product(f"backbone, an image of {side} px", 1, encode, variables, image),
            product(
                "segmentation, a person", _PERSONS, segment, variables, features, poses, matrices
            ),
            copy(
                f"AffineAlign of features, {_PERSONS} persons", align, features.maps, from_features
            ),
            copy(f"Skeleton Features, {_PERSONS} persons", draw, poses, to_cells),
        ],
        options,
    )


if __name__ == "__main__":
    rows.run(main)
