"""Image files."""

import numpy as np
import PIL.Image
import pytest

from pose2seg_jax.people.images import ImageError, open_image


def test_images_are_read_one_way(tmp_path):
    """As a viewer shows them; the stored pixels only where they alone have the annotated size."""
    pixels = np.random.RandomState(0).randint(0, 255, (20, 30, 3)).astype(np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    PIL.Image.fromarray(pixels).save(path, exif=exif)
    for size, expected in ((None, np.rot90(pixels, -1)), ((30, 20), np.rot90(pixels, -1)), ((20, 30), pixels)):  # fmt: skip
        np.testing.assert_array_equal(np.asarray(open_image(path, size)), expected)
    with pytest.raises(ImageError, match="is 30x20, but its annotation says 9x9"):
        open_image(path, (9, 9))
    path = tmp_path / "deep.png"
    PIL.Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(path)
    with pytest.raises(ImageError, match="grey with more than 8 bits"):
        open_image(path)
