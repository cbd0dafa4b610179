"""The layers that the backbone and the segmentation branch share. Arrays are NHWC."""

import fractions
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from pose2seg_jax import parallel
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models import winograd

Dtype = Any
# RGB mean and standard deviation of ImageNet (authors' code), by which images are normalised.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
# What a backbone returns: features at a quarter of the image, the best last.
Maps = tuple[Float[Array, "B h w C"], ...]
EXPANSION = 4  # outer over inner width of a bottleneck
_CONV_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Pointwise(nn.Module):
    """A 1x1 convolution as one matrix product: several times as fast on a CPU, equal elsewhere.

    Attributes:
        features: channels of the result.
        use_bias: whether a bias is added.
        use_scale: whether each channel has a factor of its own. Folding a BatchNorm can leave the kernels of some channels so
            small that a step of Adam would overwrite them; with the factor, all kernels have one size.
        dtype: of the computation; parameters are float32.
        kernel_init: how the kernel begins.
    """

    features: int
    use_bias: bool = False
    use_scale: bool = False
    dtype: Dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = _CONV_INIT

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        dense = nn.Dense(
            self.features,
            use_bias=self.use_bias and not self.use_scale,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
        )
        y = dense(x.reshape(-1, x.shape[-1]))
        if self.use_scale:
            shape = (self.features,)
            y = y * self.param("scale", nn.initializers.ones, shape).astype(self.dtype)[None]
            y = y + self.param("bias", nn.initializers.zeros, shape).astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


class Conv(nn.Module):
    """A k x k convolution, zero-padded symmetrically by k // 2 like the authors'; see `winograd`."""

    features: int
    kernel: int
    stride: int = 1
    use_bias: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        return nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            self.stride,
            padding=self.kernel // 2,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=_CONV_INIT,
            conv_general_dilated=winograd.convolution,
        )(x)


class BatchNorm(nn.Module):
    """Batch normalisation over the valid rows of all devices.

    flax.linen.BatchNorm averages the means of the devices, which is wrong as soon as they hold
    different numbers of valid rows; here sums and counts are added up across `axis_name`.

    Attributes:
        axis_name: the pmap axis to synchronise over; None for one device.
        momentum: how much of the running statistics each step keeps. A batch holds few persons, so
            the usual 0.9 would leave evaluation with the noise of the last ten batches.
    """

    axis_name: str | None = None
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: Dtype = jnp.float32
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], train: bool, valid: Bool[Array, " B"] | None = None
    ) -> Float[Array, "B H W C"]:
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if train:
            values = x.astype(jnp.float32)
            rows = jnp.ones(x.shape[0]) if valid is None else valid.astype(jnp.float32)
            weights = rows[:, None, None, None]
            sums = (
                jnp.sum(rows) * (x.shape[1] * x.shape[2]),
                jnp.sum(values * weights, axis=(0, 1, 2)),
                jnp.sum(values**2 * weights, axis=(0, 1, 2)),
            )
            if self.axis_name is not None and not self.is_initializing():
                sums = parallel.sum_over_devices(sums, self.axis_name)
            count = jnp.maximum(sums[0], 1)
            mean = sums[1] / count
            var = jnp.maximum(sums[2] / count - mean**2, 0)
            if not self.is_initializing():
                # A batch without any valid row leaves the running statistics alone.
                keep = jnp.where(sums[0] > 0, self.momentum, 1)
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * var
        else:
            mean, var = running_mean.value, running_var.value
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        factor, offset = (v.astype(self.dtype).reshape(1, 1, 1, -1) for v in (factor, offset))
        return x.astype(self.dtype) * factor + offset


class Bottleneck(nn.Module):
    """ResNet bottleneck: 1x1, 3x3, 1x1 to four times the width, each with BatchNorm.

    With a 1x1 convolution beside it where its input has another width.

    Attributes:
        features: inner width; the outer is EXPANSION times that.
        axis_name: the pmap axis that BatchNorm synchronises over.
        dtype: of the computation; parameters are float32.
        upsample: applied to the input, a linear function of each channel by itself. It is applied behind the first 1x1 convolutions, where
            that is the same: with four times as few cells they cost a quarter. None where there is nothing to upsample.
    """

    features: int
    axis_name: str | None = None
    dtype: Dtype = jnp.float32
    upsample: Callable[[Array], Array] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "N H W C"], train: bool, valid: Bool[Array, " N"] | None = None
    ) -> Float[Array, "N h w D"]:
        def norm(y, scale_init=nn.initializers.ones):
            layer = BatchNorm(self.axis_name, dtype=self.dtype, scale_init=scale_init)
            return layer(y, train, valid)

        def first(features, x):
            y = Pointwise(features, dtype=self.dtype)(x)
            return self.upsample(y) if self.upsample else y

        outer = EXPANSION * self.features
        y = nn.relu(norm(first(self.features, x)))
        y = nn.relu(norm(Conv(self.features, 3, dtype=self.dtype)(y)))
        # Each unit starts as the identity.
        y = norm(Pointwise(outer, dtype=self.dtype)(y), nn.initializers.zeros)
        if x.shape[-1] != outer:
            x = norm(first(outer, x))
        elif self.upsample:
            x = self.upsample(x)
        return nn.relu(x + y)


class Depthwise(nn.Module):
    """A k x k convolution of each channel by itself, padded as in TensorFlow ("SAME"); not trained.

    As a sum of k * k shifted images: XLA's grouped convolution takes many times as long on a CPU
    (benchmarks/formulations.py). The kernel, a hundredth of the parameters but a third of a
    backbone's time in training, stays as it was made, by ImageNet or by MoveNet's training.
    """

    kernel: int
    stride: int = 1
    use_bias: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
        size, stride, channels = self.kernel, self.stride, x.shape[-1]
        init = nn.initializers.he_normal()
        kernel = self.param("kernel", init, (size, size, 1, channels))
        kernel = jax.lax.stop_gradient(kernel).astype(self.dtype)
        window = (size, size)
        sides = jax.lax.padtype_to_pads(x.shape[1:3], window, (stride, stride), "SAME")
        padded = jnp.pad(x, [(0, 0), *sides, (0, 0)])
        height, width = (end - size + 1 for end in padded.shape[1:3])
        shifted = (
            padded[:, i : i + height : stride, j : j + width : stride] * kernel[i, j][None, None]
            for i, j in np.ndindex(window)
        )
        start = next(shifted)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (channels,)).astype(self.dtype)
            start = bias.reshape(1, 1, 1, channels) + start
        return sum(shifted, start)


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise, 1x1 back (MobileNetV2); with a shortcut where shapes allow it."""

    kernel: int
    stride: int
    expansion: int
    features: int
    dtype: Dtype = jnp.float32
    use_scale: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w D"]:
        def pointwise(features: int, y: Array) -> Array:
            return Pointwise(features, True, self.use_scale, self.dtype)(y)

        y = x
        if self.expansion > 1:
            y = nn.relu6(pointwise(self.expansion * x.shape[-1], y))
        y = nn.relu6(Depthwise(self.kernel, self.stride, dtype=self.dtype)(y))
        y = pointwise(self.features, y)
        return x + y if y.shape == x.shape else y


def is_frozen(path: Sequence[str], blocks: int) -> bool:
    """Whether a parameter is not trained, in a network of so many frozen `InvertedResidual` behind one convolution.

    Args:
        path: of the parameter below that network.
        blocks: how many of the first are frozen, with the convolution before them.
    """
    first = {"Conv_0", *(f"InvertedResidual_{i}" for i in range(blocks))}
    return path[0] in first or (path[-1] == "kernel" and path[-2].startswith("Depthwise"))


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """2x2 max-pooling by pairs: its gradient is several times faster than reduce-window's on a CPU.

    That of a reduction over squares divides by the number of largest values, which XLA may find to be 0:
    it computes the values twice and can round them differently.
    """
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    rows = jnp.maximum(squares[:, :, 0], squares[:, :, 1])
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def mean_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Mean-pooling over squares of 2 x 2 cells."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))


def shrink(x: Float[Array, "B S S C"], side: int) -> Float[Array, "B s s C"]:
    """Makes square images smaller: a new cell is the mean of the square that it covers.

    Cells that two squares share count in each by the part that is inside. The pattern repeats: for
    5 / 3, 5 x 5 cells become 3 x 3.

    Args:
        x: images of side S.
        side: the new side s, at most S; the smaller the terms of S / s, the less there is to add up.
    """
    many, few = fractions.Fraction(x.shape[1], side).as_integer_ratio()
    ends = np.arange(few + 1) * many / few
    cells = np.arange(many)[:, None]
    inside = np.clip(np.minimum(ends[1:], cells + 1) - np.maximum(ends[:-1], cells), 0, None)
    weights = (inside * few / many).T
    for axis in (1, 2):
        before, after = x.shape[:axis], x.shape[axis + 1 :]
        blocks = x.reshape(*before, -1, many, *after)
        # Sums of slices: on a CPU faster than jax.image.resize (benchmarks.formulations).
        slices = [jax.lax.index_in_dim(blocks, i, axis + 1, keepdims=False) for i in range(many)]
        means = [
            sum(w * cell for w, cell in zip(row, slices, strict=True) if w)
            for row in weights.tolist()
        ]
        x = jnp.stack(means, axis + 1).reshape(*before, -1, *after)
    return x


def depth_to_space(x: Float[Array, "B H W C"], block: int = 2) -> Float[Array, "B h w D"]:
    """Makes height and width `block` times as large: a share of the channels for each cell of a block."""
    batch, height, width, channels = x.shape
    depth = channels // block**2
    blocks = x.reshape(batch, height, width, block, block, depth).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, block * height, block * width, depth)


def space_to_depth(x: Float[Array, "B H W C"], block: int) -> Float[Array, "B h w D"]:
    """Undoes `depth_to_space`: the cells of a block become channels of one."""
    batch, height, width, channels = x.shape
    rows, columns = height // block, width // block
    blocks = x.reshape(batch, rows, block, columns, block, channels).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, rows, columns, block**2 * channels)


def upsample_nearest(x: Float[Array, "B H W C"]) -> Float[Array, "B h w C"]:
    """Doubles height and width by repetition."""
    batch, height, width, channels = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return wide.reshape(batch, 2 * height, 2 * width, channels)


def upsample_bilinear(
    x: Float[Array, "B H W C"], align_corners: bool = False
) -> Float[Array, "B h w C"]:
    """Doubles height and width, linearly between pixel centres.

    As sums of shifted maps: faster on a CPU than jax.image.resize, which multiplies matrices (benchmarks/formulations.py).

    Args:
        x: the maps.
        align_corners: whether the centres of the outermost pixels stay where they are (as in
            PyTorch); otherwise the edges of the image do.
    """
    for axis in (1, 2):
        side = x.shape[axis]
        along = [side if a == axis else 1 for a in range(4)]
        # Of the two results of a cell, the first takes so much of the cell before, the second of the one behind.
        share = np.arange(side) / (2 * side - 1) if align_corners else 0.25 * (np.arange(side) > 0)
        of_before, of_behind = (
            jnp.asarray(s.reshape(along), x.dtype) for s in (share, share[::-1])
        )
        padded = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(4)])
        before, behind = (
            jax.lax.slice_in_dim(padded, start, start + side, axis=axis) for start in (0, 2)
        )
        pairs = [x + of_before * (before - x), x + of_behind * (behind - x)]
        shape = (*x.shape[:axis], 2 * side, *x.shape[axis + 1 :])
        x = jnp.stack(pairs, axis + 1).reshape(shape)
    return x
