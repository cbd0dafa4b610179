"""Convolutions on a CPU with a fraction of the multiplications, by Winograd (Lavin and Gray 2016).

A tile of 6 x 6 inputs gives 4 x 4 results of a kernel of 3 x 3, with 36 products in place of 144, or 3 x 3 results of a kernel of 4 x 4. The
rest is sums, and over many channels the products are matrix products, which is what a CPU does best. A kernel of 7 x 7 with a stride of 2 is
one of 4 x 4 without, on squares of 2 x 2 pixels. Results differ from the direct sum by rounding, about 1e-5 of their size. On
other devices, and where it would be slower, it is XLA's convolution.

    with direct(True):  # XLA's convolution everywhere, for programs that other runtimes will run
"""

import math
from collections.abc import Callable, Sequence
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

# Functions that were traced with another value are traced again.
direct = jax.make_user_context(default_value=False)


def convolution(
    lhs: Float[Array, "B H W C"],
    rhs: Float[Array, "k k C D"],
    window_strides: Sequence[int],
    padding: Any,
    **more: Any,
) -> Float[jax.Array, "B h w D"]:
    """`jax.lax.conv_general_dilated` as `flax.linen.Conv` without dilation or groups calls it; by Winograd where that is faster."""

    def plain(lhs: Any, rhs: Any) -> jax.Array:
        return jax.lax.conv_general_dilated(lhs, rhs, window_strides, padding, **more)

    size, stride = int(rhs.shape[0]), tuple(window_strides)
    ways: dict[Any, Callable[..., jax.Array]] = {(3, (1, 1)): winograd, (7, (2, 2)): _halving}
    known = ways.get((size, stride))
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
    size, features = kernel.shape[0], kernel.shape[-1]
    step = _TILE + 1 - size  # results of a tile
    batch, (height, width) = x.shape[0], (side + 1 - size for side in x.shape[1:3])
    rows, columns = -(-height // step), -(-width // step)
    rest = [(0, step * rows - height), (0, step * columns - width)]
    padded = jnp.pad(x, [(0, 0), *rest, (0, 0)])
    of_kernel = [[f * p**n for n in range(size)] for f, p in zip(_FACTORS, _POINTS, strict=True)]
    of_kernel.append([0] * (size - 1) + [24])
    scaled = kernel / 24**2
    half = [[_weighted(w, scaled[:, j]) for j in range(size)] for w in of_kernel]
    kernels = [[_weighted(w, column) for w in of_kernel] for column in half]
    # Along the height, then along the width: the sixth part of the tiles' inputs at a time. XLA makes few passes over memory of the sums;
    # as products with matrices of 36 x 36 they take a quarter more time.
    slices = [padded[:, i : i + step * (rows - 1) + 1 : step] for i in range(_TILE)]
    products = []
    for i, weights in enumerate(_INPUT):
        row = _weighted(weights, slices)
        across = [row[:, :, j : j + step * (columns - 1) + 1 : step] for j in range(_TILE)]
        tiles = [_weighted(weights, across).reshape(-1, x.shape[-1]) for weights in _INPUT]
        products.append([tile @ k for tile, k in zip(tiles, kernels[i], strict=True)])
    powers = [[p**n for p in _POINTS] + [int(n == step - 1)] for n in range(step)]
    high = [[_weighted(w, column) for column in zip(*products, strict=True)] for w in powers]
    cells = [[_weighted(w, row).reshape(batch, rows, columns, features) for w in powers] for row in high]  # fmt: skip
    result = jnp.stack([jnp.stack(row, axis=3) for row in cells], axis=2)
    return result.reshape(batch, step * rows, step * columns, features)[:, :height, :width]


def _weighted(weights: Sequence[int], values: Any) -> Any:
    """The sum of values, each times its weight."""
    given = zip(weights, values, strict=True)
    terms = (v if w == 1 else -v if w == -1 else w * v for w, v in given if w)
    return sum(terms, start=next(terms))
