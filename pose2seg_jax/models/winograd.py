"""Convolutions on a CPU with a fraction of the multiplications, by Winograd (Lavin and Gray 2016).

A tile of 6 x 6 inputs gives 4 x 4 results of a kernel of 3 x 3, with 36 products in place of 144, or 3 x 3 results of a kernel of 4 x 4. The
rest is sums, and over many channels the products are matrix products, which is what a CPU does best. A kernel of 7 x 7 with a stride of 2 is
one of 4 x 4 without, on squares of 2 x 2 pixels. Results differ from the direct sum by rounding, about 1e-5 of their size. On
other devices, and where it would be slower, it is XLA's convolution.

    with direct(True):  # XLA's convolution everywhere, for programs that other runtimes will run
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pose2seg_jax.alignment.geometry import Array

_TILE = 6  # side of a tile of inputs
# Inputs and kernels as polynomials at the points 0, 1, -1, 2, -2 and infinity (Lavin and Gray, section 4.3); the first powers of the
# points give the results.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_POINTS = (0, 1, -1, 2, -2)
_FACTORS = (6, -4, -4, 1, 1)  # of the kernel at these points, / 24
# With fewer channels or cells the sums cost more than the products that they save.
_LEAST_CHANNELS = 64
_LEAST_CELLS = 1024

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

    size, stride = rhs.shape[0], tuple(window_strides)
    known = {(3, (1, 1)): winograd, (7, (2, 2)): _halving}.get((size, stride))
    fits = list(padding) == [(size // 2, size // 2)] * 2 and lhs.dtype == rhs.dtype == jnp.float32
    # Of one image; how many those are may be a symbol.
    cells = math.prod(-(-side // step) for side, step in zip(lhs.shape[1:3], stride, strict=True))
    large = min(rhs.shape[2:]) >= _LEAST_CHANNELS and cells >= _LEAST_CELLS
    if known is None or direct.value or not (fits and large):
        return plain(lhs, rhs)

    @jax.custom_vjp
    def fast(lhs: Array, rhs: Array) -> jax.Array:
        return jax.lax.platform_dependent(lhs, rhs, cpu=known, default=plain)

    def forward(lhs: Array, rhs: Array) -> tuple[jax.Array, tuple[Array, Array]]:
        return fast(lhs, rhs), (lhs, rhs)

    def backward(given: tuple[Array, Array], gradient: Array) -> tuple[Array, ...]:
        return jax.vjp(plain, *given)[1](gradient)

    fast.defvjp(forward, backward)
    return fast(lhs, rhs)


def _halving(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"]
) -> Float[jax.Array, "B h w D"]:
    """The convolution of stride 2 and padding k // 2."""
    before = kernel.shape[0] // 2
    behind = [2 * (-(-side // 2) + before) - before - side for side in x.shape[1:3]]
    padded = jnp.pad(x, [(0, 0), *((before, rest) for rest in behind), (0, 0)])
    larger = jnp.pad(kernel, [(0, 1), (0, 1), (0, 0), (0, 0)])
    phases = list(np.ndindex(2, 2))
    squares = jnp.concatenate([padded[:, i::2, j::2] for i, j in phases], axis=3)
    return _valid(squares, jnp.concatenate([larger[i::2, j::2] for i, j in phases], axis=2))


def winograd(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"]
) -> Float[jax.Array, "B H W D"]:
    """Returns the convolution of stride 1, with a border of zeros that keeps height and width."""
    border = (kernel.shape[0] // 2,) * 2
    return _valid(jnp.pad(x, [(0, 0), border, border, (0, 0)]), kernel)


def _valid(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C D"]
) -> Float[jax.Array, "B h w D"]:
    """The convolution of stride 1 without a border, of a kernel with k of 3 or 4."""
    size, channels, features = kernel.shape[1:]
    step = _TILE + 1 - size  # results of a tile, along each axis
    height, width = (side + 1 - size for side in x.shape[1:3])
    rows, columns = -(-height // step), -(-width // step)
    rest = [(0, step * rows - height), (0, step * columns - width)]
    padded = jnp.pad(x, [(0, 0), *rest, (0, 0)])
    ends = step * (rows - 1) + 1, step * (columns - 1) + 1
    cells = [padded[:, i : i + ends[0] : step, j : j + ends[1] : step] for i, j in np.ndindex(_TILE, _TILE)]  # fmt: skip
    tiles = _transformed(_INPUT, jnp.stack(cells).reshape(_TILE**2, -1, channels))
    at_points = [[f * p**n for n in range(size)] for p, f in zip(_POINTS, _FACTORS, strict=True)]
    of_kernel = np.asarray([*at_points, [0] * (size - 1) + [24]]) / 24
    kernels = _transformed(of_kernel, kernel.reshape(size**2, channels, features))
    products = jnp.einsum("tnc,tcd->tnd", tiles, kernels)
    powers = [[*(p**n for p in _POINTS), n == step - 1] for n in range(step)]
    result = _transformed(powers, products).reshape(step, step, -1, rows, columns, features)
    result = result.transpose(2, 3, 0, 4, 1, 5).reshape(-1, step * rows, step * columns, features)
    return result[:, :height, :width]


def _transformed(matrix: Any, values: Float[Array, "s n m"]) -> Float[jax.Array, "t n m"]:
    """Squares of s values, row by row, multiplied by a matrix along both of their axes; as one product."""
    both = np.kron(matrix, matrix).astype(np.float32)
    return (both @ values.reshape(len(values), -1)).reshape(len(both), *values.shape[1:])
