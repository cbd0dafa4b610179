"""The segmentation branch (paper 3.4), the authors' and a leaner one of ours: ROIs to mask logits."""

import functools
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.layers import (
    EXPANSION,
    BatchNorm,
    Bottleneck,
    Conv,
    Dtype,
    Pointwise,
    depth_to_space,
    max_pool,
    mean_pool,
    upsample_bilinear,
    upsample_nearest,
)


class SegmentationBranch(nn.Module):
    """Aligned features and Skeleton Features to one mask logit a cell.

    A strided convolution, `units` bottlenecks at half the size, bilinear upsampling, one
    more bottleneck, a 1x1 convolution. The upsampling is done inside of that bottleneck, where it gives the same for less. The paper says "10 repeated units"; the rest is the authors'
    code, with one logit in place of their two classes.

    Attributes:
        features: inner width of a bottleneck (256); its outer width is four times that.
        units: number of bottlenecks at half the size (10).
        head_features: inner width of the bottleneck at full size (128).
        stem_features: channels after the first convolution (256).
        stem_kernel: its kernel (7).
        stride: cells of the mask per cell of the ROI's features, along each axis.
        align_corners: how it upsamples, see `upsample_bilinear`.
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
    """

    features: int = 256
    units: int = 10
    head_features: int = 128
    stem_features: int = 256
    stem_kernel: int = 7
    stride: int = 1
    align_corners: bool = False
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    coarsest: ClassVar[int] = 2  # ROI cells per cell of the coarsest level

    @nn.compact
    def __call__(
        self, x: Float[Array, "N R R C"], train: bool, valid: Bool[Array, " N"]
    ) -> Float[Array, "N M M"]:
        x = Conv(self.stem_features, self.stem_kernel, 2, dtype=self.dtype)(x)
        x = nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(x, train, valid))
        for _ in range(self.units):
            x = Bottleneck(self.features, self.axis_name, self.dtype)(x, train, valid)
        upsample = functools.partial(upsample_bilinear, align_corners=self.align_corners)
        x = Bottleneck(self.head_features, self.axis_name, self.dtype, upsample)(x, train, valid)
        return _logits(x, self.stride, self.dtype)


class Units(nn.Module):
    """`units` bottlenecks, at `depth` times half the size and twice the width.

    Around each halving stands one more bottleneck before and one after, with a skip connection, as
    in an hourglass. A unit costs the same at every size, and sees twice as far at the next.
    """

    features: int
    units: int
    depth: int
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "N H W C"], train: bool, valid: Bool[Array, " N"]
    ) -> Float[Array, "N H W D"]:
        def unit(y):
            return Bottleneck(self.features, self.axis_name, self.dtype)(y, train, valid)

        if not self.depth:
            for _ in range(self.units):
                x = unit(x)
            return x
        x = unit(x)
        inner = Units(2 * self.features, self.units, self.depth - 1, self.axis_name, self.dtype)
        low = Pointwise(x.shape[-1], dtype=self.dtype)(inner(max_pool(x), train, valid))
        low = BatchNorm(self.axis_name, dtype=self.dtype)(low, train, valid)
        return unit(nn.relu(x + upsample_nearest(low)))


class LeanSegmentationBranch(nn.Module):
    """As `SegmentationBranch`, at less than a fifth of its operations (ours, docs/performance.md).

    What the ROI shows is told at half its size and below (`Units`); at full size, where each
    channel costs four times as much, a few channels put the edge in its place: of what was told,
    of the features and of the skeleton.

    Attributes:
        features: inner width of a bottleneck at half the size; its outer width is four times that.
        units: number of bottlenecks at the smallest size.
        depth: halvings below half the size.
        head_features: channels at full size.
        head_convs: number of 3x3 convolutions at full size.
        stride: cells of the mask per cell of the ROI's features, along each axis.
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
    """

    features: int
    units: int
    depth: int
    head_features: int
    head_convs: int = 1
    stride: int = 1
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @property
    def coarsest(self) -> int:
        """ROI cells per cell of the coarsest level."""
        return 2 * 2**self.depth

    @nn.compact
    def __call__(
        self, x: Float[Array, "N R R C"], train: bool, valid: Bool[Array, " N"]
    ) -> Float[Array, "N M M"]:
        def activate(y):
            return nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(y, train, valid))

        def pointwise(features, y):
            return Pointwise(features, dtype=self.dtype)(y)

        y = activate(pointwise(EXPANSION * self.features, mean_pool(x)))
        y = Units(self.features, self.units, self.depth, self.axis_name, self.dtype)(
            y, train, valid
        )
        y = depth_to_space(pointwise(4 * self.head_features, y))
        y = activate(y + pointwise(self.head_features, x))
        for _ in range(self.head_convs):
            y = activate(Conv(self.head_features, 3, dtype=self.dtype)(y))
        return _logits(y, self.stride, self.dtype)


def _logits(x: Float[Array, "N R R C"], stride: int, dtype: Dtype) -> Float[Array, "N M M"]:
    """The last layer, in the module that calls: so many logits along each axis of a cell."""
    logits = Pointwise(stride**2, use_bias=True, dtype=dtype)(x)
    return depth_to_space(logits, stride)[..., 0].astype(jnp.float32)
