"""Points and 2x3 matrices: fit, compose, invert, apply.

Points are (x, y). Pixel (row i, column j) covers [j, j+1) x [i, i+1), so its centre is
(j + 0.5, i + 0.5). A matrix is (M | t) of shape (2, 3) and maps source coordinates to destination
coordinates: destination = M @ source + t. See docs/coordinates.md.

Everything here is pure, broadcasts over any number of leading batch dimensions, keeps the dtype of
its input and runs under `jit`, `vmap` and `grad`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Real

from pose2seg_jax.errors import UserError

Array = jax.Array | np.ndarray

IDENTITY = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)

# Below this share of the squared magnitude of the coordinates, the spread of a point set is rounding.
_RELATIVE_SPREAD = 1e-8


def fit_similarity(
    source: Real[Array, "*#batch n 2"],
    target: Real[Array, "*#batch n 2"],
    weights: Real[Array, "*#batch n"] | Bool[Array, "*#batch n"],
    *,
    reflect: bool = False,
) -> tuple[Float[jax.Array, "*#batch 2 3"], Float[jax.Array, "*#batch"]]:
    """Least-squares similarity (rotation, uniform scale, translation) that takes source to target.

    Minimises sum_i w_i |M p_i + t - q_i|^2 in closed form (paper 3.2, Eq. 1 and 2, and the authors'
    code). Where the weighted source points have no spread (no part, one part, all parts at one
    point), rotation and scale are undetermined: M is then the identity (or the mirror), and only
    the translation is fitted. Values and gradients are finite for every finite input.

    Args:
        source: points p in source coordinates.
        target: points q in destination coordinates.
        weights: non-negative weights; 0 leaves a point out, whatever finite value it has.
        reflect: fit a similarity with negative determinant, M = [[a, b], [-b, a]] @ diag(-1, 1).

    Returns:
        The matrix (source to target) and the root of the weighted mean squared distance, in
        units of the target.
    """
    source, target = as_floats(source, "source"), as_floats(target, "target")
    target, weights = (
        target.astype(source.dtype),
        as_floats(weights, "weights").astype(source.dtype),
    )
    rank = max(source.ndim, target.ndim, weights.ndim + 1)
    source, target, weights = _lift(source, rank), _lift(target, rank), _lift(weights, rank - 1)
    mirror = jnp.asarray([-1.0 if reflect else 1.0, 1.0], source.dtype)
    mirror = mirror.reshape((1,) * (source.ndim - 1) + (2,))
    points = source * mirror
    w = weights[..., None]
    total = jnp.sum(weights, axis=-1)
    total = jnp.where(total > 0, total, 1.0)
    source_mean = jnp.sum(w * points, axis=-2) / total[..., None]
    target_mean = jnp.sum(w * target, axis=-2) / total[..., None]
    s = points - source_mean[..., None, :]
    r = target - target_mean[..., None, :]

    spread = jnp.sum(w * s * s, axis=(-2, -1))
    magnitude = jnp.sum(w * points * points, axis=(-2, -1))
    has_spread = spread > _RELATIVE_SPREAD * magnitude
    variance = jnp.where(has_spread, spread, 1.0)
    a = jnp.sum(w * s * r, axis=(-2, -1)) / variance
    b = jnp.sum(weights * (s[..., 1] * r[..., 0] - s[..., 0] * r[..., 1]), axis=-1) / variance
    a = jnp.where(has_spread, a, 1.0)
    b = jnp.where(has_spread, b, 0.0)

    linear = jnp.stack([jnp.stack([a, b], -1), jnp.stack([-b, a], -1)], -2)
    translation = target_mean - _transform(linear, source_mean[..., None, :])[..., 0, :]
    error = _transform(linear, s) - r
    mean_square = jnp.sum(w * error * error, axis=(-2, -1)) / total
    positive = mean_square > 0  # sqrt has an infinite slope at 0
    residual = jnp.where(positive, jnp.sqrt(jnp.where(positive, mean_square, 1.0)), 0.0)
    return jnp.concatenate([linear * mirror, translation[..., None]], axis=-1), residual


def _transform(
    linear: Float[Array, "*#batch 2 2"], points: Real[Array, "*#batch n 2"]
) -> Float[jax.Array, "*#batch n 2"]:
    # Sums written out: a matrix product would run in bfloat16 or TF32 on a TPU or GPU.
    return jnp.sum(linear[..., None, :, :] * points[..., None, :], axis=-1)


def _lift(array: jax.Array, rank: int) -> jax.Array:
    """The array with leading axes of size 1 up to a rank, said aloud: a program may forbid it silently."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _same_rank(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    rank = max(first.ndim, second.ndim)
    return _lift(first, rank), _lift(second, rank)


def apply(
    matrix: Real[Array, "*#batch 2 3"], points: Real[Array, "*#batch n 2"]
) -> Float[jax.Array, "*#batch n 2"]:
    """Maps points from the source to the destination coordinates of `matrix`."""
    matrix, points = _same_rank(as_floats(matrix, "matrix"), as_floats(points, "points"))
    return _transform(matrix[..., :2], points) + matrix[..., None, :, 2]


def apply_to_poses(
    matrix: Real[Array, "*#batch 2 3"], poses: Real[Array, "*#batch n 3"]
) -> Float[jax.Array, "*#batch n 3"]:
    """Maps poses (x, y, v) like `apply`; v stays. Left and right are not swapped."""
    poses = as_floats(poses, "poses")
    moved = apply(matrix, poses[..., :2])
    visibility = jnp.broadcast_to(_lift(poses[..., 2:], moved.ndim), (*moved.shape[:-1], 1))
    return jnp.concatenate([moved, visibility], axis=-1)


def apply_to_grid(
    matrix: Real[Array, "*#batch 2 3"], height: int, width: int
) -> tuple[Float[jax.Array, "*#batch height width"], Float[jax.Array, "*#batch height width"]]:
    """Maps the pixel centres of a height x width image; x and y apart, which is fastest to use."""
    m = as_floats(matrix, "matrix")[..., None, None]
    x = _lift(jnp.arange(width, dtype=m.dtype) + 0.5, m.ndim - 2)
    y = _lift(jnp.arange(height, dtype=m.dtype)[:, None] + 0.5, m.ndim - 2)

    def coordinate(row):
        return m[..., row, 0, :, :] * x + (m[..., row, 1, :, :] * y + m[..., row, 2, :, :])

    return coordinate(0), coordinate(1)


def compose(
    outer: Real[Array, "*#batch 2 3"], inner: Real[Array, "*#batch 2 3"]
) -> Float[jax.Array, "*#batch 2 3"]:
    """The matrix that applies `inner` first and `outer` second."""
    outer, inner = _same_rank(as_floats(outer, "outer"), as_floats(inner, "inner"))
    columns = _transform(
        outer[..., :2], jnp.swapaxes(inner, -1, -2)
    )  # the images of inner's columns
    return shifted(jnp.swapaxes(columns, -1, -2), outer[..., 2])


def shifted(
    matrices: Float[Array, "*batch 2 3"], offset: Float[Array, "*#batch 2"] | float
) -> Float[jax.Array, "*batch 2 3"]:
    """Returns matrices whose results lie further by an offset (x, y)."""
    moved = matrices[..., 2] + jnp.asarray(offset, matrices.dtype)
    return jnp.concatenate([matrices[..., :2], moved[..., None]], axis=-1)


def invert(matrix: Real[Array, "*#batch 2 3"]) -> Float[jax.Array, "*#batch 2 3"]:
    """The matrix that maps destination coordinates back to source coordinates.

    A singular matrix has no inverse: its result is not finite.
    """
    matrix = as_floats(matrix, "matrix")
    a, b, c, d = (matrix[..., i, j] for i in (0, 1) for j in (0, 1))
    determinant = a * d - b * c
    adjugate = jnp.stack([jnp.stack([d, -b], -1), jnp.stack([-c, a], -1)], -2)
    linear = adjugate / determinant[..., None, None]
    translation = -_transform(linear, matrix[..., None, :, 2])
    return jnp.concatenate([linear, jnp.swapaxes(translation, -1, -2)], axis=-1)


def from_pixel_indices(matrix: Real[Array, "*#batch 2 3"]) -> Float[jax.Array, "*#batch 2 3"]:
    """Turns a matrix between pixel indices into the one between our coordinates.

    Where indices are coordinates, as in OpenCV, the centre of the first pixel is 0; here it is 0.5.
    """
    matrix = as_floats(matrix, "matrix")
    return shifted(matrix, 0.5 - 0.5 * jnp.sum(matrix[..., :2], axis=-1))


def scaling(factor: float | int, center: float | int = 0) -> Float[np.ndarray, "2 3"]:
    """The matrix that scales by `factor` about the point (center, center)."""
    offset = center * (1 - factor)
    return np.asarray([[factor, 0, offset], [0, factor, offset]], np.float32)


def mirror(side: float | int) -> Float[np.ndarray, "2 3"]:
    """The matrix that swaps left and right of a square of this side."""
    return np.asarray([[-1, 0, side], [0, 1, 0]], np.float32)


def about(
    linear: Float[Array, "*#batch 2 2"], center: float | int, shift: Float[Array, "*#batch 2"]
) -> Float[jax.Array, "*#batch 2 3"]:
    """The matrix that applies `linear` about the point (center, center), and then shifts."""
    offset = center + shift - center * jnp.sum(linear, axis=-1)
    return jnp.concatenate([linear, offset[..., None]], axis=-1)


def scale_of(matrix: Real[Array, "*#batch 2 3"]) -> Float[jax.Array, "*#batch"]:
    """The scale of a similarity: the root of the absolute value of its determinant."""
    determinant = matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]
    return jnp.sqrt(jnp.abs(determinant))


def is_mirrored(matrix: Real[Array, "*#batch 2 3"]) -> Bool[jax.Array, "*#batch"]:
    """Whether a similarity contains a reflection."""
    return jnp.less(matrix[..., 0, 0] * matrix[..., 1, 1], matrix[..., 0, 1] * matrix[..., 1, 0])


def letterbox(size: Real[Array, "*#batch 2"], side: float | int) -> Float[jax.Array, "*#batch 2 3"]:
    """Fits images of (height, width) `size` into a square: aspect kept, centred.

    Returns:
        Matrices from image coordinates to the coordinates of the side x side square.
    """
    size = as_floats(size, "size")
    height, width = size[..., 0], size[..., 1]
    scale = side / jnp.maximum(height, width)
    zero = jnp.zeros_like(scale)
    row_x = jnp.stack([scale, zero, (side - scale * width) / 2], -1)
    row_y = jnp.stack([zero, scale, (side - scale * height) / 2], -1)
    return jnp.stack([row_x, row_y], -2)


def letterbox_part(
    low: Real[Array, "*#batch 2"], high: Real[Array, "*#batch 2"], side: float | int
) -> Float[jax.Array, "*#batch 2 3"]:
    """Fits a part of each image, given by its corners (x, y), into a square: aspect kept, centred.

    Returns:
        Matrices from image coordinates to the coordinates of the side x side square.
    """
    low, high = as_floats(low, "low"), as_floats(high, "high")
    matrix = letterbox((high - low)[..., ::-1], side)
    return shifted(matrix, -matrix[..., :1, 0] * low)


def as_floats(values: Array | float, name: str) -> Float[jax.Array, "..."]:
    """Returns an array as floating point; whole numbers would round every fraction away.

    Raises:
        UserError: `name` holds no real numbers.
    """
    array = jnp.asarray(values)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    if jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool:
        return array.astype(jnp.float32)
    raise UserError(f"{name}: expected an array of real numbers, but its dtype is {array.dtype}.")
