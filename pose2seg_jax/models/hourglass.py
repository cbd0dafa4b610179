"""The stacked hourglass network (Newell et al. 2016) as a feature extractor."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.layers import (
    BatchNorm,
    Conv,
    Dtype,
    Maps,
    Pointwise,
    max_pool,
    upsample_nearest,
)


class Residual(nn.Module):
    """Pre-activation bottleneck: BN-ReLU before each convolution, half the width inside."""

    features: int
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W D"]:
        def activate(y):
            return nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(y, train))

        inner = self.features // 2
        y = Pointwise(inner, dtype=self.dtype)(activate(x))
        y = Conv(inner, 3, dtype=self.dtype)(activate(y))
        y = Pointwise(self.features, dtype=self.dtype)(activate(y))
        if x.shape[-1] != self.features:
            x = Pointwise(self.features, dtype=self.dtype)(x)
        return x + y


class Hourglass(nn.Module):
    """One hourglass: `depth` times down to half the size and up again, with skip connections."""

    depth: int
    features: int
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W C"]:
        def residual(y):
            return Residual(self.features, self.axis_name, self.dtype)(y, train)

        low = residual(max_pool(x))
        if self.depth > 1:
            low = Hourglass(self.depth - 1, self.features, self.axis_name, self.dtype)(low, train)
        else:
            low = residual(low)
        return residual(x) + upsample_nearest(residual(low))


class StackedHourglass(nn.Module):
    """Images to features at a quarter of their size, once after each hourglass.

    Attributes:
        stacks: number of hourglasses (2 in the paper: "Hourglass-2").
        features: channels of the result (256 in the paper); the stem has a quarter and a half.
        depth: halvings within an hourglass; the image's sides must be multiples of 4 * 2**depth.
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
    """

    stacks: int = 2
    features: int = 256
    depth: int = 4
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @property
    def coarsest(self) -> int:
        """Image pixels per cell of the coarsest level."""
        return 4 * 2**self.depth

    @property
    def num_maps(self) -> int:
        """How many maps the result has."""
        return self.stacks

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Maps:
        def residual(features, y):
            return Residual(features, self.axis_name, self.dtype)(y, train)

        def activate(y):
            return nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(y, train))

        x = activate(Conv(self.features // 4, 7, 2, dtype=self.dtype)(x))
        x = max_pool(residual(self.features // 2, x))
        x = residual(self.features, residual(self.features // 2, x))
        maps = []
        for stack in range(self.stacks):
            y = Hourglass(self.depth, self.features, self.axis_name, self.dtype)(x, train)
            y = residual(self.features, y)
            y = activate(Pointwise(self.features, dtype=self.dtype)(y))
            maps.append(y)
            if stack < self.stacks - 1:
                x = x + Pointwise(self.features, dtype=self.dtype)(y)
        return tuple(maps)
