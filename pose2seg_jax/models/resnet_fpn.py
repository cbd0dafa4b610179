"""ResNet-50 with a feature pyramid, the backbone of the CVPR 2019 version."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.layers import (
    BatchNorm,
    Bottleneck,
    Conv,
    Dtype,
    Maps,
    Pointwise,
    upsample_bilinear,
)

UNITS = (3, 4, 6, 3)  # bottlenecks a stage


class ResNetFPN(nn.Module):
    """Images to features at a quarter of their size: the finest level of the pyramid.

    As in the authors' code, a stage is strided in its first 1x1 convolution (torchvision strides in
    the 3x3 one), and levels are added after bilinear upsampling. The coarser levels have no
    convolution of their own, since nothing reads them.

    Attributes:
        features: channels of the pyramid (256).
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
    """

    features: int = 256
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    coarsest: ClassVar[int] = 32  # image pixels per cell of the coarsest level
    num_maps: ClassVar[int] = 1

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Maps:
        x = Conv(64, 7, 2, dtype=self.dtype)(x)
        x = nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(x, train))
        # Padded by itself, with zeros, the least that is there: so jax2onnx can export it.
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2))
        levels = []
        for stage, units in enumerate(UNITS):
            if stage:
                x = x[:, ::2, ::2]  # all that the strided 1x1 convolutions of the next unit read
            for _ in range(units):
                x = Bottleneck(64 * 2**stage, self.axis_name, self.dtype)(x, train)
            levels.append(x)

        def lateral(level):
            return Pointwise(self.features, use_bias=True, dtype=self.dtype)(level)

        top = lateral(levels.pop())
        while levels:
            top = upsample_bilinear(top) + lateral(levels.pop())
        return (Conv(self.features, 3, use_bias=True, dtype=self.dtype)(top),)
