"""MoveNet MultiPose Lightning (Google): images to the maps from which poses are read, bottom-up; and its features as a backbone.

A MobileNetV2 of width 1.75, a feature pyramid to stride 4, and six heads in the manner of CenterNet (Zhou et al. 2019): a person
is a peak of the centre map, with a box and a first guess of each part; heatmaps say where parts are. The layers and their
numbers are those of Google's TF.js model; `weights/movenet_files.py` reads them.
"""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models import layers
from pose2seg_jax.models.layers import (
    MEAN,
    STD,
    Depthwise,
    Dtype,
    InvertedResidual,
    Maps,
    Pointwise,
    upsample_bilinear,
)
from pose2seg_jax.people.parts import NUM_PARTS

STRIDE = 4  # image pixels per cell of the maps
COARSEST = 32  # height and width of the images are multiples of it
# 1 / 127.5 as the published file has it, in float16.
_SCALE = 0.007843017578125
# (stride, expansion, channels, blocks) of MobileNetV2's stages.
_STAGES = (
    (1, 1, 24, 1),
    (2, 6, 40, 2),
    (2, 6, 48, 3),
    (2, 6, 96, 4),
    (1, 6, 144, 3),
    (2, 6, 240, 3),
    (1, 6, 480, 1),
)
_LEVELS = (1, 2, 3)  # stages whose results the pyramid takes
_PYRAMID = ((64, 32), (32, 24), (24, 24))  # channels of a level before and behind its convolution
_HEAD_FEATURES = 96


class PoseMaps(NamedTuple):
    """What the network says of B images, in cells of h x w. Pairs are (y, x), as in TensorFlow.

    Attributes:
        centers: logits that a person's centre is in the cell.
        box_sizes: height and width of the person.
        box_offsets: from the cell to the centre of the person's box.
        parts: logits of COCO's 17 parts.
        regressed: from the cell of a centre to each part.
        part_offsets: from the cell of a part to the part.
    """

    centers: Float[Array, "B h w"]
    box_sizes: Float[Array, "B h w 2"]
    box_offsets: Float[Array, "B h w 2"]
    parts: Float[Array, "B h w 17"]
    regressed: Float[Array, "B h w 17 2"]
    part_offsets: Float[Array, "B h w 17 2"]


class Separable(nn.Module):
    """A 3x3 convolution of each channel, then 1x1, then ReLU."""

    features: int
    dtype: Dtype = jnp.float32
    use_scale: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        x = Depthwise(3, use_bias=False, dtype=self.dtype)(x)
        return nn.relu(Pointwise(self.features, True, self.use_scale, self.dtype)(x))


class Head(nn.Module):
    """A map of some channels."""

    channels: int

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        return Pointwise(self.channels, use_bias=True)(Separable(_HEAD_FEATURES)(x))


class MoveNetFPN(nn.Module):
    """MoveNet's features, 24 channels at a quarter of the image, as a backbone to train.

    Meant to start from MoveNet (`weights/movenet_files.py`), which has seen the people of COCO, not from random weights: its first
    stages and all of its depthwise kernels are not trained.

    Attributes:
        frozen_stages: of its 7, how many are not trained; the pyramid always is.
        axis_name: not used; it has no BatchNorm.
        dtype: of the computation; parameters are float32.
    """

    frozen_stages: int = 2
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    coarsest: ClassVar[int] = COARSEST
    num_maps: ClassVar[int] = 1

    def is_frozen(self, path: Sequence[str]) -> bool:
        """Whether the parameter at a path below the backbone keeps the value that it starts with."""
        return layers.is_frozen(path, sum(stage[-1] for stage in _STAGES[: self.frozen_stages]))

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Maps:
        """Returns the features of RGB images that were normalised by ImageNet's mean and standard deviation."""
        mean, std = (np.asarray(values, np.float32) * _SCALE for values in (MEAN, STD))
        x = x * std.astype(self.dtype) + (mean - 1).astype(self.dtype)
        return (_features(x, self.dtype, use_scale=True, frozen=self.frozen_stages),)


def _features(
    x: Float[Array, "B H W 3"], dtype: Dtype = jnp.float32, use_scale: bool = False, frozen: int = 0
) -> Float[Array, "B h w 24"]:
    """The layers below the heads, made in the module that calls; no gradient reaches the frozen stages."""
    x = nn.relu6(nn.Conv(48, (3, 3), 2, dtype=dtype)(x))
    levels = []
    for stage, (stride, expansion, features, blocks) in enumerate(_STAGES):
        for block in range(blocks):
            step = 1 if block else stride
            x = InvertedResidual(3, step, expansion, features, dtype, use_scale)(x)
        if stage < frozen:
            x = jax.lax.stop_gradient(x)
        if stage in _LEVELS:
            levels.append(x)

    def lateral(level: Array, features: int) -> Array:
        return Pointwise(features, True, use_scale, dtype)(level)

    x = nn.relu6(lateral(x, 1280))
    x = lateral(x, _PYRAMID[0][0])
    for before, behind in _PYRAMID:
        x = upsample_bilinear(x) + lateral(levels.pop(), before)
        x = Separable(behind, dtype, use_scale)(x)
    return x


class MoveNet(nn.Module):
    """The network, in float32: in bfloat16 its offsets would be wrong by cells.

    BatchNorm is folded into its convolutions; it is not meant to be trained as it is.
    """

    @nn.compact
    def __call__(self, images: UInt8[Array, "B H W 3"]) -> PoseMaps:
        """Returns the maps of RGB images, whose sides are multiples of 32."""
        x = _features(images.astype(jnp.float32) * _SCALE - 1)
        parts = (*x.shape[:3], NUM_PARTS, 2)
        return PoseMaps(
            Head(1, name="centers")(x)[..., 0],
            jax.nn.relu(Head(2, name="box_sizes")(x)),
            Head(2, name="box_offsets")(x),
            Head(NUM_PARTS, name="parts")(x),
            Head(2 * NUM_PARTS, name="regressed")(x).reshape(parts),
            Head(2 * NUM_PARTS, name="part_offsets")(x).reshape(parts),
        )
