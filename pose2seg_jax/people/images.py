"""Image files, read one way by training, evaluation and prediction. No TensorFlow here."""

import io
import os
import struct
import warnings

import PIL.Image
import PIL.ImageOps

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError

# Files with these suffixes are images; in a folder, others are not looked at.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_ORIENTATION = 0x0112  # the EXIF tag


class ImageError(UserError):
    """An image file that cannot be used; the message names it and says why."""


def open_image(path: str | os.PathLike, size: tuple[int, int] | None = None) -> PIL.Image.Image:
    """Opens an image as a viewer shows it: an EXIF rotation is applied.

    Args:
        path: the file.
        size: (height, width) that its annotation gives it. Where only the stored pixels have it,
            they are left as they are.

    Returns:
        The loaded image; its `format` is None where it was rotated.

    Raises:
        ImageError: missing, unreadable, truncated, grey with more than 8 bits, or not of that size.
    """
    try:
        # A photo of 100 megapixels is fine; from 179 on, Pillow refuses.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            image: PIL.Image.Image = PIL.Image.open(io.BytesIO(paths.resolve(path).read_bytes()))
        image.load()  # finds truncated files
        if image.getexif().get(_ORIENTATION, 1) != 1:
            shown = PIL.ImageOps.exif_transpose(image)
            if size is None or shown.size == size[::-1]:
                image = shown
    except FileNotFoundError:
        raise ImageError(f"{path}: is missing") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        PIL.Image.DecompressionBombError,
    ) as error:
        raise ImageError(f"{path}: is no readable image ({error})") from None
    if image.mode[0] in "IF":
        raise ImageError(f"{path}: is grey with more than 8 bits; convert it to 8")
    if size is not None and image.size != size[::-1]:
        raise ImageError(
            f"{path}: is {image.width}x{image.height}, but its annotation says {size[1]}x{size[0]}"
        )
    return image
