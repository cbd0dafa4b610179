"""Pulling arrays through matrices: into the ROI and back (docs/coordinates.md).

Every function reads the source at the inverse image of each destination pixel's centre.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Real

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array


def sample(
    images: Real[Array, "B H W C"],
    image_index: Int[Array, " N"],
    x: Float[Array, "N R S"],
    y: Float[Array, "N R S"],
) -> Float[jax.Array, "N R S C"]:
    """Reads images at points, bilinearly between pixel centres; outside the image is 0.

    Args:
        images: the sources.
        image_index: which image each of the N grids of points reads.
        x: of the points, in image coordinates: the centre of the first pixel is at .5.
        y: of the points.
    """
    images = geometry.as_floats(images, "images")
    batch, height, width, channels = images.shape
    flat = images.reshape(batch * height * width, channels)
    left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
    right_weight, bottom_weight = x - 0.5 - left, y - 0.5 - top
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    base = image_index[:, None, None].astype(jnp.int32) * (height * width)
    total = jnp.zeros((), images.dtype)
    for row, row_weight in ((top, 1 - bottom_weight), (top + 1, bottom_weight)):
        for column, column_weight in ((left, 1 - right_weight), (left + 1, right_weight)):
            exists = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1) + base
            weight = jnp.where(exists, row_weight * column_weight, 0.0).astype(images.dtype)
            total = total + flat[index] * weight[..., None]
    return total


@functools.partial(jax.jit, static_argnames=("roi_size",))
def align_to_roi(
    images: Real[Array, "B H W C"],
    image_index: Int[Array, " N"],
    matrices: Real[Array, "N 2 3"],
    roi_size: int,
) -> Float[jax.Array, "N R R C"]:
    """Pulls one ROI per person out of images or feature maps.

    Args:
        images: the sources.
        image_index: the image of each person.
        matrices: image coordinates (of these arrays, in their own pixels) to ROI coordinates.
        roi_size: side R of the ROI.
    """
    x, y = geometry.apply_to_grid(geometry.invert(matrices), roi_size, roi_size)
    return sample(images, image_index, x, y)


@functools.partial(
    jax.jit,
    static_argnames=(
        "roi_size",
        "samples",
    ),
)
def align_masks(
    masks: Real[Array, "N H W"] | Bool[Array, "N H W"],
    matrices: Real[Array, "N 2 3"],
    roi_size: int,
    samples: int = 4,
) -> Float[jax.Array, "N R R"]:
    """Pulls each person's mask into the ROI: the value of a cell is the share that is covered.

    Args:
        masks: one mask per person, in [0, 1].
        matrices: mask coordinates to ROI coordinates.
        roi_size: side R of the ROI.
        samples: samples per cell and axis whose mean stands for the area.
    """
    masks = geometry.as_floats(masks, "masks")
    fine = geometry.compose(geometry.scaling(samples), matrices)
    index = jnp.arange(masks.shape[0])
    rois = align_to_roi(masks[..., None], index, fine, samples * roi_size)
    return rois.reshape(-1, roi_size, samples, roi_size, samples).mean(axis=(2, 4))


@functools.partial(
    jax.jit,
    static_argnames=(
        "height",
        "width",
    ),
)
def reverse_align(
    rois: Real[Array, "N R R"], matrices: Real[Array, "N 2 3"], height: int, width: int
) -> Float[jax.Array, "N height width"]:
    """Takes ROI values (mask probabilities) back to the image; outside the ROI is 0.

    Inside the ROI, the outermost half cell repeats the cell's value, so that a person that the
    ROI's border cuts keeps its edge.

    Args:
        rois: square ROIs, one per person.
        matrices: image coordinates to ROI coordinates.
        height: rows of the result.
        width: columns of the result.
    """
    roi_size = rois.shape[1]
    x, y = geometry.apply_to_grid(matrices, height, width)
    inside = (x >= 0) & (x < roi_size) & (y >= 0) & (y < roi_size)
    x, y = (jnp.clip(points, 0.5, roi_size - 0.5) for points in (x, y))
    values = sample(rois[..., None], jnp.arange(rois.shape[0]), x, y)[..., 0]
    return jnp.where(inside, values, 0.0)
