"""Image files."""

import numpy as np
import PIL.Image
import pillow_heif
import pytest

from pose2seg_jax.people import images
from pose2seg_jax.people.images import IMAGE_SUFFIXES, ImageError, open_image


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


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".hif", ".apng"}))
def test_every_format_is_read(tmp_path, suffix):
    """Written by Pillow and pillow-heif; as much as its format loses."""
    pillow_heif.register_heif_opener()
    ramp = np.linspace(0, 250, 48, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[:32, None], ramp[None], 100), -1).astype(np.uint8)
    picture = PIL.Image.fromarray(pixels)
    if suffix in (".pgm", ".pbm"):
        picture = picture.convert("L" if suffix == ".pgm" else "1")
    path = tmp_path / f"a{suffix}"
    picture.save(path, format="MPO" if suffix == ".mpo" else None)
    found = np.asarray(open_image(path).convert("RGB")).astype(int)
    expected = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(found - expected).mean() < (12 if suffix == ".gif" else 6)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif"])
def test_an_animation_says_that_one_frame_is_used(tmp_path, suffix, caplog):
    frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue", "green")]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    picture = open_image(tmp_path / f"a{suffix}").convert("RGB")
    assert picture.getpixel((4, 4))[0] > 200
    assert "is animated; only the first of its 3 frames is used" in caplog.text


def test_pages_are_no_animation(tmp_path, caplog):
    frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    open_image(tmp_path / "a.tif")
    assert not caplog.text


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".avif", ".webp", ".gif", ".jp2", ".heic", ".bmp", ".tif"])  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_file_is_one_clear_error(tmp_path, suffix):
    pillow_heif.register_heif_opener()
    rng = np.random.RandomState(0)
    path = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(rng.randint(0, 255, (40, 40, 3)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    refused = 0
    for attempt in range(60):
        data = bytearray(whole)
        for place in rng.randint(0, len(data), 8):
            data[place] = rng.randint(256)
        path.write_bytes(data[: rng.randint(1, len(data))] if attempt % 2 else data)
        try:
            open_image(path).convert("RGB")
        except ImageError as error:
            assert path.name in str(error)  # noqa: PT017
            refused += 1
    assert refused > 10


def test_a_missing_plugin_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.setattr(images, "_register_heif", lambda: False)
    with pytest.raises(ImageError, match=r"a\.heic: is HEIC, which needs .* pip install pillow-heif"):  # fmt: skip
        open_image(tmp_path / "a.heic")
