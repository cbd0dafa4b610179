"""What each way of computing is worth: the one in use beside the one that comes to mind first.

    python -m benchmarks.formulations

In turns, on made-up data of the sizes of configs/coco_human_small.py (the branches: at the paper's; the
backbone of 448 px: of configs/coco_human_lite.py);
"trained" is with gradients. The answers are equal, or as close as tests/ says, but for the lean branch, which is
another network, and jax.image.resize, which weighs pixels by a triangle.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jax.scipy.ndimage
import numpy as np
from pycocotools import mask as mask_utils

from benchmarks import rows
from configs import coco_human, coco_human_lean
from pose2seg_jax.alignment import geometry, sampling, skeleton
from pose2seg_jax.models import NetworkSpec, layers
from pose2seg_jax.people import parts
from pose2seg_jax.people.masks import encode_mask
from pose2seg_jax.training import augment

_REPEATS = 9
_COUNT, _ROI, _SIDE = 8, 64, 256
_SIMILARITY = np.tile(np.asarray([[0.8, 0.1, 3], [-0.1, 0.8, 9]], np.float32), (_COUNT, 1, 1))


def _row(
    what: str, ours: Callable[..., Any], other: str, theirs: Callable[..., Any], *arguments: Any
) -> rows.Row:
    """Both compiled, on the same arguments."""
    calls = [jax.jit(function) for function in (ours, theirs)]
    return _in_turns(
        what, other, *(lambda call=call: jax.block_until_ready(call(*arguments)) for call in calls)
    )


def _in_turns(
    what: str, other: str, ours: Callable[[], Any], theirs: Callable[[], Any]
) -> rows.Row:
    first, second = rows.in_turns(ours, theirs, repeats=_REPEATS)
    return rows.Row("formulation", what, 1e3 * first, "ms", other, 1e3 * second)


def _trained(module: nn.Module, x: np.ndarray) -> Callable[..., Any]:
    """The gradients of a layer, in its parameters and its input."""
    variables = module.init(jax.random.key(0), x)

    def loss(variables: Any, x: Any) -> jax.Array:
        y: Any = module.apply(variables, x)
        return jnp.sum(y**2)

    return functools.partial(jax.grad(loss, (0, 1)), variables)


def _applied(module: nn.Module, x: np.ndarray) -> Callable[..., Any]:
    return functools.partial(module.apply, module.init(jax.random.key(0), x))


def _network(rng: np.random.Generator) -> list[rows.Row]:
    x = rng.normal(size=(_COUNT, 64, 64, 64)).astype(np.float32)

    def pooling(pool):
        return jax.grad(lambda x: jnp.sum(pool(x) ** 2))

    return [
        _row(
            "1x1 convolution, trained",
            _trained(layers.Pointwise(128), x),
            "nn.Conv",
            _trained(nn.Conv(128, (1, 1), use_bias=False), x),
            x,
        ),
        _row(
            "5x5 depthwise convolution",
            _applied(layers.Depthwise(5, 1), x),
            "nn.Conv in groups",
            _applied(nn.Conv(64, (5, 5), feature_group_count=64), x),
            x,
        ),
        _row(
            f"{_COUNT} images of 640 px for a backbone of 448",
            lambda images: layers.shrink(images, 448),
            "jax.image.resize",
            lambda images: jax.image.resize(images, (_COUNT, 448, 448, 3), "linear"),
            rng.uniform(size=(_COUNT, 640, 640, 3)).astype(np.float32),
        ),
        _row(
            "2x2 max-pooling, trained",
            pooling(layers.max_pool),
            "nn.max_pool",
            pooling(lambda x: nn.max_pool(x, (2, 2), (2, 2))),
            x,
        ),
        _row(
            "bilinear upsampling, 64 x 64 cells",
            layers.upsample_bilinear,
            "jax.image.resize",
            lambda x: jax.image.resize(x, (1, 128, 128, 256), "linear"),
            rng.normal(size=(1, 64, 64, 256)).astype(np.float32),
        ),
    ]


def _branches(rng: np.random.Generator) -> rows.Row:
    """For one person at the paper's size."""
    calls = []
    for config in (coco_human_lean.get_config(), coco_human.get_config()):
        spec = NetworkSpec.from_config(config.model)
        channels = spec.backbone["features"] + skeleton.num_channels(parts.PAPER_LIMBS)
        rois = rng.normal(size=(1, _ROI, _ROI, channels)).astype(np.float32)
        valid = np.ones(1, bool)
        branch = spec.make_branch()
        variables = branch.init(jax.random.key(0), rois, False, valid)
        calls.append(functools.partial(branch.apply, variables, train=False, valid=valid))
    return _row("lean branch, a person", calls[0], "the authors' branch", calls[1], rois)


def _map_coordinates(images, matrices):
    x, y = geometry.apply_to_grid(geometry.invert(matrices), _SIDE, _SIDE)

    def one(image, x, y):
        points = [y - 0.5, x - 0.5]
        return jax.vmap(
            lambda channel: jax.scipy.ndimage.map_coordinates(channel, points, 1), -1, -1
        )(image)

    return jax.vmap(one)(images, x, y)


def _training(rng: np.random.Generator) -> list[rows.Row]:
    frames = rng.uniform(0, 255, (_COUNT, 320, 320, 3)).astype(np.float32)
    bits = rng.integers(0, 255, (_COUNT, _SIDE, _SIDE // 8), np.uint8)
    identity = np.tile(np.asarray([[1, 0, 0], [0, 1, 0]], np.float32), (_COUNT, 1, 1))

    def from_bits(bits, matrices):
        canvas = augment.Canvas(
            jnp.zeros((1, _SIDE, _SIDE, 3), jnp.uint8),
            jnp.zeros((_COUNT, 17, 3)),
            bits,
            jnp.asarray(identity),
            jnp.ones(_COUNT, bool),
            jnp.zeros((1, 0, 17, 3)),
            bits[:1],
            jnp.asarray(identity[:1]),
        )
        return augment.align_packed_masks(canvas, matrices, _ROI)

    def from_floats(bits, matrices):
        masks = jnp.unpackbits(bits, axis=-1).astype(jnp.float32)
        return sampling.align_masks(masks, matrices, _ROI)

    return [
        _row(
            f"{_COUNT} images onto the canvas",
            lambda images, matrices: sampling.align_to_roi(
                images, jnp.arange(_COUNT), matrices, _SIDE
            ),
            "jax.scipy.ndimage.map_coordinates",
            _map_coordinates,
            frames,
            _SIMILARITY,
        ),
        _row(
            f"{_COUNT} targets",
            from_bits,
            "bilinear samples of float masks",
            from_floats,
            bits,
            _SIMILARITY * (_ROI / _SIDE),
        ),
    ]


def _results() -> rows.Row:
    """A mask that fills half of its ROI, a third of a photo wide."""
    height, width = 480, 640
    y, x = np.mgrid[:_ROI, :_ROI]
    inside = 1 - ((x - 31.5) / 14) ** 2 - ((y - 31.5) / 28) ** 2
    roi = (1 / (1 + np.exp(-4 * inside))).astype(np.float32)
    matrix = np.asarray([[0.2, 0.05, -10], [-0.05, 0.2, 5]], np.float32)
    back = jax.jit(sampling.reverse_align, static_argnums=(2, 3))

    def whole_image():
        values = np.asarray(back(roi[None], matrix[None], height, width))[0]
        return mask_utils.encode(np.asfortranarray(values > 0.5))

    return _in_turns(
        "a mask, ROI to RLE",
        "in the whole image, compiled for its size",
        lambda: encode_mask(roi, matrix, height, width),
        whole_image,
    )


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    rng = np.random.default_rng(0)
    rows.publish([_branches(rng), *_network(rng), *_training(rng), _results()], options)


if __name__ == "__main__":
    rows.run(main)
