"""3x3 convolutions on a CPU with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray 2016).

A tile of 6 x 6 inputs gives 4 x 4 outputs: 36 products in place of 144. The rest is sums, and over many channels the products are 36 matrix
products, which is what a CPU does best (benchmarks/formulations.py). Results differ from the direct sum by rounding, about
1e-5 of their size. On other devices, and where it would be slower, it is XLA's convolution.

    with direct(True):  # XLA's convolution everywhere, for programs that other runtimes will run
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from pose2seg_jax.alignment.geometry import Array

_OUT, _IN = 4, 6  # sides of a tile of the result, and of what it is made of
# The transforms of inputs, kernels and results; Lavin and Gray, section 4.3.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # / 24
_RESULT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
# With fewer channels or tiles the sums cost more than the products that they save.
_LEAST_CHANNELS = 128
_LEAST_TILES = 64

direct = jax.make_user_context(default_value=False)  # what is traced with another value is traced again


def convolution(
    lhs: Float[Array, "B H W C"],
    rhs: Float[Array, "k k C D"],
    window_strides: Sequence[int],
    padding: Any,
    **more: Any,
) -> Float[jax.Array, "B h w D"]:
    """`jax.lax.conv_general_dilated` as `flax.linen.Conv` without dilation or groups calls it; by Winograd where that is faster."""

    def plain(lhs: Array, rhs: Array) -> jax.Array:
        return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **more)

    tiles = math.prod(-(-side // _OUT) for side in lhs.shape[1:3])  # of an image; how many those are may be a symbol
    keeps_size = tuple(window_strides) == (1, 1) and list(padding) == [(1, 1), (1, 1)]
    fits = rhs.shape[:2] == (3, 3) and keeps_size and lhs.dtype == rhs.dtype == jnp.float32
    large = min(rhs.shape[2:]) >= _LEAST_CHANNELS and tiles >= _LEAST_TILES
    if direct.value or not (fits and large):
        return plain(lhs, rhs)

    @jax.custom_vjp
    def fast(lhs: Array, rhs: Array) -> jax.Array:
        return jax.lax.platform_dependent(lhs, rhs, cpu=winograd, default=plain)

    def forward(lhs: Array, rhs: Array) -> tuple[jax.Array, tuple[Array, Array]]:
        return fast(lhs, rhs), (lhs, rhs)

    def backward(given: tuple[Array, Array], gradient: Array) -> tuple[Array, ...]:
        return jax.vjp(plain, *given)[1](gradient)

    fast.defvjp(forward, backward)
    return fast(lhs, rhs)


def winograd(
    x: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C D"]
) -> Float[jax.Array, "B H W D"]:
    """Returns the convolution of stride 1, with a border of zeros that keeps height and width."""
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    rows, columns = -(-height // _OUT), -(-width // _OUT)
    border = [(0, 0), (1, 1 + _OUT * rows - height), (1, 1 + _OUT * columns - width), (0, 0)]
    padded = jnp.pad(x, border)
    scaled = kernel / 24**2
    half = [[_weighted(w, scaled[:, j]) for j in range(3)] for w in _KERNEL]
    kernels = [[_weighted(w, column) for w in _KERNEL] for column in half]
    # Along the height, then along the width: the sixth part of the tiles' inputs at a time.
    slices = [padded[:, i : i + _OUT * (rows - 1) + 1 : _OUT] for i in range(_IN)]
    products = []
    for i, weights in enumerate(_INPUT):
        row = _weighted(weights, slices)
        across = [row[:, :, j : j + _OUT * (columns - 1) + 1 : _OUT] for j in range(_IN)]
        transformed = [_weighted(weights, across).reshape(-1, channels) for weights in _INPUT]
        products.append([tile @ k for tile, k in zip(transformed, kernels[i], strict=True)])
    high = [[_weighted(w, column) for column in zip(*products, strict=True)] for w in _RESULT]
    cells = [[_weighted(w, row).reshape(batch, rows, columns, features) for w in _RESULT] for row in high]
    result = jnp.stack([jnp.stack(row, axis=3) for row in cells], axis=2)
    return result.reshape(batch, _OUT * rows, _OUT * columns, features)[:, :height, :width]


def _weighted(weights: Sequence[int], values: Any) -> Any:
    """The sum of values, each times its weight."""
    terms = (v if w == 1 else -v if w == -1 else w * v for w, v in zip(weights, values, strict=True) if w)
    return sum(terms, start=next(terms))
