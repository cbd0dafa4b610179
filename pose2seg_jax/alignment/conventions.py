"""Where pixels are read: our convention, and the one that the CVPR 2019 weights were trained with.

A `SamplingConvention` owns every half pixel: how an image becomes the canvas (the square that a network
sees), where feature cells lie, and how the ROI is read. docs/coordinates.md explains both.
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import scipy  # its parts are loaded where they are used
from jaxtyping import Float, Real, UInt8

from pose2seg_jax.alignment import geometry, sampling
from pose2seg_jax.alignment.geometry import Array


@runtime_checkable
class SamplingConvention(Protocol):
    """What differs between conventions; see `PixelCenters` and `PixelIndices`."""

    align_corners: ClassVar[bool]

    def letterbox(
        self, sizes: Real[Array, "*batch 2"], side: int
    ) -> Float[jax.Array, "*batch 2 3"]:
        """Returns matrices from images of (height, width) to the canvas."""

    def letterbox_image(self, image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "S S 3"]:  # fmt: skip
        """Fits an image into the canvas, on the host: nothing is compiled for its size."""

    def letterbox_on_device(self, image: UInt8[Array, "H W 3"], side: int) -> UInt8[jax.Array, "S S 3"]:  # fmt: skip
        """Fits an image into the canvas under `jit`."""

    def from_features(self, matrices: Float[Array, "N 2 3"], stride: float | int, side: int) -> Float[Array, "N 2 3"]:  # fmt: skip
        """Returns matrices from features of side `side` to the ROI, given those from the canvas."""

    def template_to_roi(self, matrices: Float[Array, "*batch 2 3"]) -> Float[Array, "*batch 2 3"]:
        """Corrects matrices that were fitted to templates in the unit square times the ROI's side."""

    def image_to_roi(self, matrices: Float[Array, "*batch 2 3"]) -> Float[Array, "*batch 2 3"]:
        """Corrects matrices that letterbox a whole image into the ROI."""

    def pad_roi(
        self, probabilities: Float[Array, "N R R"], matrices: Float[Array, "N 2 3"]
    ) -> tuple[Float[Array, "N Q Q"], Float[Array, "N 2 3"]]:
        """Returns ROI masks as they are read on their way back to the image, and their matrices."""


class PixelCenters:
    """Ours: pixel (i, j) covers [j, j + 1) x [i, i + 1), and everything is read between pixel centres.

    The letterbox resizes to whole pixels, so one library resize serves everywhere and an image that has the
    canvas's longer side is only moved: by half a pixel where an odd number of rows or columns is missing.
    """

    align_corners: ClassVar[bool] = False

    def letterbox(
        self, sizes: Real[Array, "*batch 2"], side: int
    ) -> Float[jax.Array, "*batch 2 3"]:
        """See `SamplingConvention`."""
        sizes = jnp.asarray(sizes).astype(jnp.int32)
        longest = jnp.max(sizes, axis=-1, keepdims=True)
        longest = jnp.broadcast_to(longest, sizes.shape)
        fitted = jnp.maximum(jax.lax.div(*_fit(sizes, longest, side)), 1).astype(jnp.float32)
        scale = fitted / sizes.astype(jnp.float32)
        zero = jnp.zeros_like(scale[..., 0])
        offset = (side - fitted) / 2
        rows = [
            jnp.stack([scale[..., 1], zero, offset[..., 1]], axis=-1),
            jnp.stack([zero, scale[..., 0], offset[..., 0]], axis=-1),
        ]
        return jnp.stack(rows, axis=-2)

    def letterbox_image(
        self, image: UInt8[np.ndarray, "H W 3"], side: int
    ) -> UInt8[np.ndarray, "S S 3"]:
        """See `SamplingConvention`."""
        height, width = _whole_pixels(image.shape[:2], side)
        if (height, width) != image.shape[:2]:
            bilinear = PIL.Image.Resampling.BILINEAR  # with antialiasing
            image = np.asarray(PIL.Image.fromarray(image).resize((width, height), bilinear))
        canvas = _center(_center(image, side, 0, np), side, 1, np)
        return canvas if canvas.dtype == np.uint8 else np.round(canvas).astype(np.uint8)

    def letterbox_on_device(
        self, image: UInt8[Array, "H W 3"], side: int
    ) -> UInt8[jax.Array, "S S 3"]:
        """See `SamplingConvention`."""
        height, width = _whole_pixels(image.shape[:2], side)
        pixels = jnp.asarray(image).astype(jnp.float32)
        pixels = jax.image.resize(pixels, (height, width, 3), "bilinear", antialias=True)
        return _to_uint8(_center(_center(pixels, side, 0, jnp), side, 1, jnp))

    def from_features(
        self, matrices: Float[Array, "N 2 3"], stride: float | int, side: int
    ) -> Float[Array, "N 2 3"]:
        """See `SamplingConvention`."""
        return geometry.compose(matrices, geometry.scaling(stride))

    def template_to_roi(self, matrices: Float[Array, "*batch 2 3"]) -> Float[Array, "*batch 2 3"]:
        """See `SamplingConvention`."""
        return matrices

    def image_to_roi(self, matrices: Float[Array, "*batch 2 3"]) -> Float[Array, "*batch 2 3"]:
        """See `SamplingConvention`."""
        return matrices

    def pad_roi(
        self, probabilities: Float[Array, "N R R"], matrices: Float[Array, "N 2 3"]
    ) -> tuple[Float[Array, "N Q Q"], Float[Array, "N 2 3"]]:
        """See `SamplingConvention`."""
        return probabilities, matrices


class PixelIndices:
    """The CVPR 2019 version's: matrices are between pixel indices, and there is no antialiasing.

    Its letterbox is OpenCV's warpAffine, whose edges blend with black; its ROI grid goes from corner pixel to corner
    pixel; its masks fade out beyond the outermost centres of the ROI.
    """

    align_corners: ClassVar[bool] = True

    def letterbox(
        self, sizes: Real[Array, "*batch 2"], side: int
    ) -> Float[jax.Array, "*batch 2 3"]:
        """See `SamplingConvention`."""
        return geometry.from_pixel_indices(geometry.letterbox(sizes, side))

    def letterbox_image(
        self, image: UInt8[np.ndarray, "H W 3"], side: int
    ) -> UInt8[np.ndarray, "S S 3"]:
        """See `SamplingConvention`."""
        height, width = image.shape[:2]
        scale = side / max(height, width)
        offset = ((side - scale * height) / 2, (side - scale * width) / 2)
        channels = [
            scipy.ndimage.affine_transform(
                image[..., c], [1 / scale] * 2, [-value / scale for value in offset],
                (side, side), np.float32, order=1, mode="grid-constant",
            )
            for c in range(3)
        ]  # fmt: skip
        return np.clip(np.round(np.stack(channels, axis=-1)), 0, 255).astype(np.uint8)

    def letterbox_on_device(
        self, image: UInt8[Array, "H W 3"], side: int
    ) -> UInt8[jax.Array, "S S 3"]:
        """See `SamplingConvention`."""
        matrix = self.letterbox(np.asarray(image.shape[:2]), side)
        first = jnp.zeros(1, jnp.int32)
        return _to_uint8(sampling.align_to_roi(image[None], first, matrix[None], side)[0])

    def from_features(
        self, matrices: Float[Array, "N 2 3"], stride: float | int, side: int
    ) -> Float[Array, "N 2 3"]:
        """See `SamplingConvention`."""
        to_canvas = geometry.from_pixel_indices(geometry.scaling(stride))
        from_features = geometry.compose(matrices, to_canvas)
        # The grid's corners stand for the corners of the features, but are read at their corner pixels.
        corners = geometry.from_pixel_indices(geometry.scaling((side - 1) / side))
        return geometry.compose(corners, geometry.compose(from_features, geometry.invert(corners)))

    def template_to_roi(self, matrices: Float[Array, "*batch 2 3"]) -> Float[Array, "*batch 2 3"]:
        """See `SamplingConvention`."""
        return geometry.shifted(matrices, 0.5)

    def image_to_roi(self, matrices: Float[Array, "*batch 2 3"]) -> Float[Array, "*batch 2 3"]:
        """See `SamplingConvention`."""
        return geometry.from_pixel_indices(matrices)

    def pad_roi(
        self, probabilities: Float[Array, "N R R"], matrices: Float[Array, "N 2 3"]
    ) -> tuple[Float[Array, "N Q Q"], Float[Array, "N 2 3"]]:
        """See `SamplingConvention`."""
        padded = jnp.pad(probabilities, [(0, 0), (1, 1), (1, 1)])
        return padded, geometry.shifted(matrices, 1.0)


CONVENTIONS: dict[str, SamplingConvention] = {
    "pixel_centers": PixelCenters(),
    "pixel_indices": PixelIndices(),
}


def _fit(sizes: Any, longest: Any, side: int) -> tuple[Any, Any]:
    """Sizes on the canvas as whole numbers to divide, so that host and device cannot round apart."""
    return 2 * sizes * side + longest, 2 * longest


def _whole_pixels(size: tuple[int, ...], side: int) -> tuple[int, int]:
    fitted = (_fit(value, max(size), side) for value in size)
    height, width = (max(above // below, 1) for above, below in fitted)
    return height, width


def _center(pixels: Any, side: int, axis: int, numpy: Any) -> Any:
    """Pads an axis with black to `side`; by half a pixel, the mean of two, where that centres it."""
    count = pixels.shape[axis]
    if (side - count) % 2:
        rows = numpy.pad(pixels, _pads(axis, 1), mode="edge").astype(numpy.float32)
        before, behind = (
            numpy.take(rows, numpy.arange(start, start + count + 1), axis) for start in (0, 1)
        )
        pixels, count = (before + behind) / 2, count + 1
    return numpy.pad(pixels, _pads(axis, (side - count) // 2))


def _pads(axis: int, count: int) -> list[tuple[int, int]]:
    return [(count, count) if axis == other else (0, 0) for other in range(3)]


def _to_uint8(values: Float[Array, "..."]) -> UInt8[jax.Array, "..."]:
    return jnp.clip(jnp.round(values), 0, 255).astype(jnp.uint8)
