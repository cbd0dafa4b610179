"""EfficientNet-Lite0 with a small feature pyramid: a backbone that starts from ImageNet.

EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation and with ReLU6 in place of swish, as
TensorFlow's efficientnet/lite has it; 2.3 M parameters up to the stage used last here.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.hourglass import Residual
from pose2seg_jax.models.layers import BatchNorm, Dtype, Pointwise, upsample_nearest

# (kernel, stride, expansion, channels, blocks) of the stages. The seventh is left out: a quarter more
# parameters for features at a size that the sixth has too.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
)
_LEVELS = (1, 2, 4, 5)  # stages whose results the pyramid takes
_FROZEN = 2  # stages, and the convolution before them, that no gradient reaches


class Depthwise(nn.Module):
    """A k x k convolution of each channel by itself, padded as in TensorFlow ("SAME"); not trained.

    As a sum of k * k shifted images: XLA's grouped convolution takes many times as long on a CPU
    (benchmarks/formulations.py). The kernel, a hundredth of the parameters but a third of the
    backbone's time in training, stays as ImageNet made it.
    """

    kernel: int
    stride: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        size, stride, channels = self.kernel, self.stride, x.shape[-1]
        init = nn.initializers.he_normal()
        kernel = self.param("kernel", init, (size, size, 1, channels))
        kernel = jax.lax.stop_gradient(kernel).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,)).astype(self.dtype)
        window = (size, size)
        sides = jax.lax.padtype_to_pads(x.shape[1:3], window, (stride, stride), "SAME")
        padded = jnp.pad(x, [(0, 0), *sides, (0, 0)])
        height, width = (end - size + 1 for end in padded.shape[1:3])
        shifted = (
            padded[:, i : i + height : stride, j : j + width : stride] * kernel[i, j][None, None]
            for i, j in np.ndindex(window)
        )
        return sum(shifted, bias.reshape(1, 1, 1, channels))


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

    Meant to start from ImageNet, not from random weights: the BatchNorm of EfficientNet, with ImageNet's
    statistics, is folded into its convolutions (`convert`), and its first stages and all of its depthwise
    kernels are not trained.

    Attributes:
        features: channels of the pyramid.
        axis_name: the pmap axis that the pyramid's BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
    """

    features: int
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    coarsest: ClassVar[int] = 32  # image pixels per cell of the coarsest level

    @staticmethod
    def is_frozen(path: Sequence[str]) -> bool:
        """Whether the parameter at a path below the backbone keeps the value that it starts with."""
        blocks = sum(stage[-1] for stage in STAGES[:_FROZEN])
        first = {"Conv_0", *(f"InvertedResidual_{i}" for i in range(blocks))}
        return path[0] in first or (path[-1] == "kernel" and path[-2].startswith("Depthwise"))

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Float[Array, "B h w C"]:
        x = nn.relu6(nn.Conv(32, (3, 3), 2, dtype=self.dtype)(x))
        levels = []
        for stage, (kernel, stride, expansion, features, blocks) in enumerate(STAGES):
            for block in range(blocks):
                step = 1 if block else stride
                x = InvertedResidual(kernel, step, expansion, features, self.dtype)(x)
            if stage + 1 == _FROZEN:
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
