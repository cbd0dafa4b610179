"""EfficientNet-Lite with a small feature pyramid: backbones that start from ImageNet.

EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation and with ReLU6 in place of swish, as
TensorFlow's efficientnet/lite has it. Up to the stage used last here, Lite0 has 2.3 M parameters, and Lite2,
which is wider and deeper, 3.3 M.
"""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models import layers
from pose2seg_jax.models.hourglass import Residual
from pose2seg_jax.models.layers import (
    BatchNorm,
    Dtype,
    InvertedResidual,
    Maps,
    Pointwise,
    upsample_nearest,
)

# (kernel, stride, expansion, channels, blocks) of the stages. The seventh is left out: a quarter more
# parameters for features at a size that the sixth has too.
_LITE0 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
)
_LITE2 = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 3),
    (5, 2, 6, 48, 3),
    (3, 2, 6, 88, 4),
    (5, 1, 6, 120, 4),
    (5, 2, 6, 208, 5),
)
_LEVELS = (1, 2, 4, 5)  # stages whose results the pyramid takes
_FROZEN = 2  # stages, and the convolution before them, that no gradient reaches


class EfficientNetLite0FPN(nn.Module):
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
    stages: ClassVar[tuple[tuple[int, int, int, int, int], ...]] = _LITE0
    coarsest: ClassVar[int] = 32  # image pixels per cell of the coarsest level
    num_maps: ClassVar[int] = 1

    def is_frozen(self, path: Sequence[str]) -> bool:
        """Whether the parameter at a path below the backbone keeps the value that it starts with."""
        return layers.is_frozen(path, sum(stage[-1] for stage in self.stages[:_FROZEN]))

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> Maps:
        x = nn.relu6(nn.Conv(32, (3, 3), 2, dtype=self.dtype)(x))
        levels = []
        for stage, (kernel, stride, expansion, features, blocks) in enumerate(self.stages):
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
        return (nn.relu(BatchNorm(self.axis_name, dtype=self.dtype)(top, train)),)


class EfficientNetLite2FPN(EfficientNetLite0FPN):
    """The same of EfficientNet-Lite2: 1.6 times the operations."""

    stages = _LITE2
