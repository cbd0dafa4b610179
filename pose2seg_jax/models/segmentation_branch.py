"""The segmentation branch (paper 3.4; layer sizes from the authors' code): ROIs to mask logits."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float

from pose2seg_jax.geometry import Array
from pose2seg_jax.models.layers import (
    BatchNorm,
    Conv,
    Dtype,
    Pointwise,
    depth_to_space,
    max_pool,
    space_to_depth,
    upsample_bilinear,
    upsample_nearest,
)

_EXPANSION = 4


class Bottleneck(nn.Module):
    """ResNet bottleneck: 1x1, 3x3, 1x1 to four times the width, each with BatchNorm."""

    features: int
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "N H W C"], train: bool, valid: Bool[Array, " N"]
    ) -> Float[Array, "N H W D"]:
        def norm(y, scale_init=nn.initializers.ones):
            layer = BatchNorm(self.axis_name, dtype=self.dtype, scale_init=scale_init)
            return layer(y, train, valid)

        outer = _EXPANSION * self.features
        y = nn.relu(norm(Pointwise(self.features, dtype=self.dtype)(x)))
        y = nn.relu(norm(Conv(self.features, 3, dtype=self.dtype)(y)))
        # Each unit starts as the identity.
        y = norm(Pointwise(outer, dtype=self.dtype)(y), nn.initializers.zeros)
        if x.shape[-1] != outer:
            x = norm(Pointwise(outer, dtype=self.dtype)(x))
        return nn.relu(x + y)


class Units(nn.Module):
    """`units` bottlenecks; with `depth`, at so many times half the size and twice the width.

    Around the halvings stands one more bottleneck before and one after, with a skip connection, as
    in an hourglass: a unit costs the same at every size, and sees twice as far.
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
        low = inner(max_pool(x), train, valid)
        low = Pointwise(x.shape[-1], dtype=self.dtype)(low)
        low = BatchNorm(self.axis_name, dtype=self.dtype)(low, train, valid)
        return unit(nn.relu(x + upsample_nearest(low)))


class SegmentationBranch(nn.Module):
    """Aligned features and Skeleton Features to one mask logit a cell.

    A strided convolution, `units` bottlenecks at half the size, bilinear upsampling, one
    more bottleneck, a 1x1 convolution. The paper says "10 repeated units"; the rest is the authors'
    code, with one logit in place of their two classes. The leaner forms of `depth`, `head_features`
    and `stem_kernel` are ours, see docs/performance.md.

    Attributes:
        features: inner width of a bottleneck (256); its outer width is four times that.
        units: number of bottlenecks at the smallest size (10).
        depth: further halvings of the size, see `Units` (0).
        head_features: inner width of the bottleneck at full size (128). 0 for none: each cell at
            half the size then gives the logits of its four cells itself.
        stem_features: channels after the first convolution (256).
        stem_kernel: its kernel (7). 1 for a 1x1 convolution to a quarter of the channels,
            whose 2x2 blocks become one cell: nothing is lost but what the convolution leaves out.
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
    """

    features: int = 256
    units: int = 10
    depth: int = 0
    head_features: int = 128
    stem_features: int = 256
    stem_kernel: int = 7
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "N R R C"], train: bool, valid: Bool[Array, " N"]
    ) -> Float[Array, "N R R"]:
        if self.stem_kernel == 1:
            x = space_to_depth(Pointwise(self.stem_features // 4, dtype=self.dtype)(x))
        else:
            x = Conv(self.stem_features, self.stem_kernel, 2, dtype=self.dtype)(x)
        x = nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(x, train, valid))
        x = Units(self.features, self.units, self.depth, self.axis_name, self.dtype)(
            x, train, valid
        )
        if self.head_features:
            x = upsample_bilinear(x)
            x = Bottleneck(self.head_features, self.axis_name, self.dtype)(x, train, valid)
            x = Pointwise(1, use_bias=True, dtype=self.dtype)(x)
        else:
            x = depth_to_space(Pointwise(4, use_bias=True, dtype=self.dtype)(x))
        return x[..., 0].astype(jnp.float32)
