"""Which files of a command are photos, and what they are called."""

import pathlib

import pytest

from pose2seg_jax.errors import UserError
from pose2seg_jax.program import photos


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.jpg", "a.PNG", "a.png_overlay.png", "._a.PNG", ".hidden/x.jpg", "notes.txt", "below/a.png", "below/deep/c.webp",
        "__MACOSX/._b.jpg",
    ):  # fmt: skip
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "photos"


def _names(*images):
    return [photo.name.as_posix() for photo in photos.find([str(image) for image in images])]


def test_folders_below_are_read_and_our_own_files_are_not(folder):
    assert _names(folder) == ["a.PNG", "b.jpg", "below/a.png", "below/deep/c.webp"]
    assert _names(folder / "below") == ["a.png", "deep/c.webp"]


def test_our_own_pictures_are_no_photos(folder):
    for name in ("b.jpg_overlay.png", "b.jpg_labels.png", "b.jpg_person12.png"):
        (folder / name).touch()
    assert _names(folder) == ["a.PNG", "b.jpg", "below/a.png", "below/deep/c.webp"]


def test_videos_are_named_by_themselves(folder, caplog):
    (folder / "walk.MP4").touch()
    (folder / "walk.mp4_overlay.mp4").touch()
    assert "walk.MP4" not in _names(folder)
    assert "left out: videos: 1, such as walk.MP4" in caplog.text
    found = photos.find([str(folder / "walk.MP4"), "camera:0"])
    assert [photo.is_video for photo in found] == [True, True]
    assert found[0].frame_id(7) == "walk_000000000007"
    assert _names(f"{folder}/*.[mM]*4") == ["walk.MP4"]


def test_files_patterns_and_folders_may_be_mixed(folder):
    assert _names(folder / "b.jpg") == ["b.jpg"]
    assert _names(f"{folder}/*.*") == ["a.PNG", "b.jpg"]
    assert _names(f"{folder}/**/*.png") == ["a.png"]
    assert _names(folder / "b.jpg", folder / "below", folder / "b.jpg") == ["b.jpg", "a.png", "deep/c.webp"]  # fmt: skip


def test_photos_of_one_name_are_told_apart(folder):
    (folder / "a.png").touch()
    assert _names(folder / "a.png", folder / "below/a.png") == ["a.png", "below/a.png"]
    found = photos.find([str(folder / "a.png"), str(folder / "a.PNG"), str(folder / "b.jpg")])
    assert [photo.result_id for photo in found] == ["a.png", "a.PNG", "b"]
    for name in ("0007.jpg", "7.png", "08.png"):
        (folder / name).touch()
    found = photos.find([str(folder / name) for name in ("0007.jpg", "7.png", "08.png")])
    assert [photo.result_id for photo in found] == ["0007", "7", 8]


@pytest.mark.parametrize(
    ("image", "message"),
    [("", "--image is empty"), ("no.jpg", "does not exist"), ("*.gif", "does not exist"), (".hidden/..", "")],
)  # fmt: skip
def test_nothing_is_named(folder, image, message, monkeypatch):
    monkeypatch.chdir(folder)
    if not message:
        assert _names(image)
        return
    with pytest.raises(UserError, match=message):
        photos.find([image])


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="holds no image"):
        photos.find([str(tmp_path)])
    assert pathlib.Path(tmp_path).exists()
