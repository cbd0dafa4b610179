"""Image files, read one way by training, evaluation and prediction. No TensorFlow here."""

import functools
import io
import logging
import os
import warnings

import PIL.features
import PIL.Image
import PIL.ImageOps

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError

# Files with these suffixes are images; in a folder, others are not looked at. All formats of photos that Pillow reads, with
# those that it reads where a plugin is installed, but not its formats of icons, textures and scientific data.
_HEIF = frozenset({".heic", ".heif", ".hif"})
IMAGE_SUFFIXES = _HEIF | {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".avif",
    ".jp2", ".j2k", ".jpx", ".jpf", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".qoi",
}  # fmt: skip
_ORIENTATION = 0x0112  # the EXIF tag
_STILLS = ("MPO", "TIFF", "HEIF")  # formats whose further pictures are no animation


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
    _register_heif()
    try:
        # A photo of 100 megapixels is fine; from 179 on, Pillow refuses.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            image: PIL.Image.Image = PIL.Image.open(io.BytesIO(paths.resolve(path).read_bytes()))
        image.load()  # finds truncated files
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in _STILLS:
            logging.warning(
                "%s: is animated; only the first of its %d frames is used.", path, frames
            )
        if image.getexif().get(_ORIENTATION, 1) != 1:
            shown = PIL.ImageOps.exif_transpose(image)
            if size is None or shown.size == size[::-1]:
                image = shown
    except FileNotFoundError:
        raise ImageError(f"{path}: is missing") from None
    except Exception as error:  # whatever Pillow and its plugins raise where a file is damaged
        missing = _missing_plugin(path)
        why = "of no known format" if isinstance(error, PIL.UnidentifiedImageError) else error
        raise ImageError(f"{path}: {missing or f'is no readable image ({why})'}") from None
    if image.mode[0] in "IF":
        raise ImageError(f"{path}: is grey with more than 8 bits; convert it to 8")
    if size is not None and image.size != size[::-1]:
        raise ImageError(
            f"{path}: is {image.width}x{image.height}, but its annotation says {size[1]}x{size[0]}"
        )
    return image


@functools.cache
def _register_heif() -> bool:
    """Lets Pillow read HEIC where pillow-heif is installed; returns whether it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _missing_plugin(path: str | os.PathLike) -> str | None:
    """What has to be installed to read a file, None where nothing is missing."""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix in _HEIF and not _register_heif():
        return "is HEIC, which needs a plugin of Pillow: pip install pillow-heif"
    if suffix == ".avif" and not PIL.features.check("avif"):
        return "is AVIF, which needs Pillow 11.3 or newer with libavif: pip install -U pillow"
    return None
