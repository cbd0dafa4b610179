"""EfficientNet-Lite0 with a small feature pyramid: a backbone that starts from ImageNet.

EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation, ReLU6 for swish) is the smallest of
its family: .4 GFLOP at 224 px, and 2.7 M parameters up to the stage used last here.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pose2seg_jax.geometry import Array
from pose2seg_jax.models.hourglass import Residual
from pose2seg_jax.models.layers import BatchNorm, Dtype, Pointwise, upsample_nearest

STEM = 32  # channels of the first convolution
# (kernel, stride, expansion, channels, blocks) of the stages; the seventh is left out: a quarter of the
# parameters for features that the sixth has at the same size.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
)
_LEVELS = (1, 2, 4, 5)  # stages whose results the pyramid takes
FROZEN = 2  # stages, and the stem before them, that fine-tuning leaves alone
COARSEST = 32  # image pixels per pixel of the last stage: sides of images must be multiples


class Depthwise(nn.Module):
    """A k x k convolution of each channel by itself, padded as in TensorFlow ("SAME").

    As a sum of k * k shifted images: XLA's grouped convolution takes ten to fifty times as long on a CPU.
    """

    kernel: int
    stride: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        size, stride, channels = self.kernel, self.stride, x.shape[-1]
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=(0, 1))
        kernel = self.param("kernel", init, (size, size, channels))
        kernel = jax.lax.stop_gradient(kernel).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,)).astype(self.dtype)
        window = (size, size)
        sides = jax.lax.padtype_to_pads(x.shape[1:3], window, (stride, stride), "SAME")
        padded = jnp.pad(x, [(0, 0), *sides, (0, 0)])
        height, width = (end - size + 1 for end in padded.shape[1:3])
        total: Any = bias
        for i, j in np.ndindex(window):
            total = (
                total + padded[:, i : i + height : stride, j : j + width : stride] * kernel[i, j]
            )
        return total


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise, 1x1 back (MobileNetV2); with a shortcut where shapes allow it."""

    kernel: int
    stride: int
    expansion: int
    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        y = x
        if self.expansion > 1:
            inner = self.expansion * x.shape[-1]
            y = nn.relu6(Pointwise(inner, use_bias=True, dtype=self.dtype)(y))
        y = nn.relu6(Depthwise(self.kernel, self.stride, self.dtype)(y))
        y = Pointwise(self.features, use_bias=True, dtype=self.dtype)(y)
        return x + y if y.shape == x.shape else y


class EfficientNetFPN(nn.Module):
    """Images to features at a quarter of their size: the finest level of a pyramid.

    The BatchNorm of EfficientNet is folded into its convolutions when its weights are converted, since
    a batch of few images is too small for statistics of its own; stem and first stages stay as
    ImageNet made them. So it is meant to start from ImageNet, not from random weights.

    Attributes:
        features: channels of the pyramid.
        axis_name: the pmap axis that the pyramid's BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
    """

    features: int = 64
    axis_name: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Float[Array, "B h w C"]:
        x = nn.relu6(Stem(STEM, self.dtype)(x))
        levels = []
        for stage, (kernel, stride, expansion, features, blocks) in enumerate(STAGES):
            for block in range(blocks):
                step = 1 if block else stride
                x = InvertedResidual(kernel, step, expansion, features, self.dtype)(x)
            if stage == FROZEN - 1:
                x = jax.lax.stop_gradient(x)
            if stage in _LEVELS:
                levels.append(x)

        def lateral(level):
            return Pointwise(self.features, dtype=self.dtype)(level)

        def residual(y):
            return Residual(self.features, self.axis_name, self.dtype)(y, train)

        top = residual(lateral(levels.pop()))
        while levels:
            top = residual(upsample_nearest(top) + lateral(levels.pop()))
        return nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(top, train))


class Stem(nn.Module):
    """The first convolution, 3x3 with stride 2, padded as in TensorFlow."""

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
        return nn.Conv(self.features, (3, 3), 2, padding="SAME", dtype=self.dtype)(x)
