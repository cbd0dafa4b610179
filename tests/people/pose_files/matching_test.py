"""Photos find their poses by one set of rules; what is not unique is an error with the candidates."""

import os
import unicodedata

import pytest

from pose2seg_jax.people.pose_files import PoseFileError, matching
from pose2seg_jax.people.pose_files.content import FileImage
from pose2seg_jax.people.pose_files.matching import Photo


def _match(keys, photos):
    images = {key: key if isinstance(key, FileImage) else FileImage(key) for key in keys}
    found = matching.match(images, [Photo(photo) for photo in photos], "poses.json")
    return {photos[number]: str(key) for number, key in found.items()}


_DECOMPOSED = unicodedata.normalize("NFD", "Zoë.jpg")


@pytest.mark.parametrize(
    ("photo", "key"),
    [
        ("/data/photo.jpg", "photo.jpg"),
        ("/data/photo.jpg", "photo"),
        ("/data/photo.tar.jpg", "photo.tar"),
        ("/data/photo.jpg", "frames/photo.jpg"),
        ("/data/photo.jpg", "D:\\pictures\\photo.jpg"),
        ("/data/photo.jpg", "./photo.jpg"),
        ("/data/IMG_0042.JPG", "img_0042.jpg"),
        ("/data/img_0042.jpg", "IMG_0042"),
        (f"/data/{_DECOMPOSED}", "Zoë.jpg"),
        ("/data/Zoë.jpg", _DECOMPOSED.upper()),
        ("/data/STRASSE.jpg", "straße.jpg"),
        ("/data/photo.jpg", "photo.png"),
        ("/data/photo.webp", "PHOTO.TIFF"),
        ("/data/000000000785.jpg", 785),
        ("/data/000000.jpg", 0),
        ("/data/000000000785.jpg", "785"),
        ("/data/000000000785.jpg", "00785.png"),
        ("/data/frame_000785.jpg", 785),
        ("/data/COCO_val2014_000000000785.jpg", 785),
        ("/data/clip2_frame785_small.jpg", 785),
    ],
)
def test_a_photo_is_found(photo, key):
    assert _match([key, "something-else.jpg", 3], [photo]) == {photo: str(key)}


@pytest.mark.parametrize(
    ("photo", "key"),
    [
        ("/data/photo.jpg", "photo2.jpg"),
        ("/data/photo.jpg", "jpg"),
        ("/data/img_12.jpg", "img_12b"),
        ("/data/2014_x.jpg", "2014/y.jpg"),
        ("/data/v2014_785.jpg", 2014),
    ],
)
def test_another_photo_is_not(photo, key):
    assert _match([key, "something-else.jpg"], [photo]) == {}


def test_the_stricter_rule_wins():
    photo = "/data/photo.jpg"
    assert _match(["photo.jpg", "photo.png", "Photo.jpg", "a/photo.jpg"], [photo, "/data/b/x.jpg"]) == {photo: "photo.jpg"}  # fmt: skip
    assert _match(["Photo.jpg", "photo.png"], [photo]) == {photo: "Photo.jpg"}
    both = ["/data/photo.jpg", "/data/photo.png"]
    assert _match(["photo.jpg"], both) == {both[0]: "photo.jpg"}  # the other one has no poses
    paths = ["/data/a/photo.jpg", "/data/b/photo.jpg"]
    assert _match(["b/photo.jpg", "a/photo.jpg"], paths) == {paths[0]: "a/photo.jpg", paths[1]: "b/photo.jpg"}  # fmt: skip
    assert _match(["b/photo.jpg", "a/photo.jpg"], paths[1:]) == {paths[1]: "b/photo.jpg"}


@pytest.mark.parametrize(
    ("keys", "photos", "message"),
    [
        (["a/photo.jpg", "b/photo.jpg"], ["/c/photo.jpg"], "/c/photo.jpg may be any of a/photo.jpg, b/photo.jpg"),
        (["photo.jpg", "photo"], ["/c/photo.jpg"], "may be any of photo.jpg, photo;"),
        (["photo.png", "photo.bmp"], ["/c/photo.jpg"], "may be any of photo.png, photo.bmp"),
        (["PHOTO.jpg", "Photo.jpg"], ["/c/photo.jpg"], "may be any of PHOTO.jpg, Photo.jpg"),
        ([785, "785"], ["/c/000785.jpg"], "may be any of 785, 785"),
        (["photo"], ["/c/photo.jpg", "/c/photo.png"], "image photo may be any of the photos /c/photo.jpg, /c/photo.png"),
        ([785], ["/c/cam1_785.jpg", "/c/cam2_785.jpg"], "image 785 may be any of the photos /c/cam1_785.jpg, /c/cam2_785.jpg"),
        (["photo.jpg"], ["/a/photo.jpg", "/b/photo.jpg"], "may be any of the photos"),
    ],
)  # fmt: skip
def test_what_is_not_unique_lists_the_candidates(keys, photos, message):
    with pytest.raises(PoseFileError, match=f"poses.json: .*{message}"):
        _match(keys, photos)


def test_two_images_of_one_name_are_named_with_their_ids():
    images = {i: FileImage(i, "photo.jpg") for i in (1, 2)}
    with pytest.raises(PoseFileError, match=r"any of photo.jpg \(id 1\), photo.jpg \(id 2\)"):
        matching.match(images, [Photo("/c/photo.jpg")], "poses.json")


def test_ids_of_named_images_are_no_numbers_of_photos():
    images = {1: FileImage(1, "first.jpg"), 2: FileImage(2, "second.jpg")}
    photos = [Photo("/c/img_2.jpg"), Photo("/c/first.jpg")]
    assert matching.match(images, photos, "poses.json") == {1: 1}


def test_a_file_that_names_no_photo_belongs_to_the_only_one():
    images = {"poses": FileImage("poses", is_named=False)}
    assert matching.match(images, [Photo("/c/photo.jpg")], "f") == {0: "poses"}
    assert matching.match(images, [Photo("/c/photo.jpg"), Photo("/c/poses.jpg")], "f") == {1: "poses"}  # fmt: skip
    assert matching.match(images, [Photo("/c/photo.jpg"), Photo("/c/other.jpg")], "f") == {}


@pytest.mark.parametrize("key", [2000033, "2000033", "002000033.jpg", "train/x.jpg", "X.png"])
def test_a_data_set_knows_its_photos_by_id_or_name(key):
    photos = [Photo("000000000005.jpg", 5), Photo("x.jpg", 2000033)]
    expected = {} if key == "002000033.jpg" else {1: key}
    if expected or isinstance(key, int):
        assert matching.match({key: FileImage(key)}, photos, "f") == expected
    # The number in a name is no id: the data set says what its numbers are.
    assert matching.match({5: FileImage(5)}, [Photo("frame_5.jpg", 7)], "f") == {}


def test_names_are_unicode_whatever_the_locale():
    raw = os.fsdecode("Zoë.jpg".encode()) if os.name != "nt" else "Zoë.jpg"
    surrogates = "Zoë.jpg".encode().decode("ascii", "surrogateescape")
    for name in (raw, surrogates):
        assert _match(["Zoë.jpg"], [f"/data/{name}"]) == {f"/data/{name}": "Zoë.jpg"}


def test_loose_rules_and_what_is_passed_over_are_said(caplog):
    _match(["photo.jpg", 785], ["/a/photo.jpg", "/a/00785.jpg"])
    assert not caplog.text
    for key, photo, how in (
        ("train/photo.jpg", "/a/val/photo.jpg", "their names alone, since the folders differ"),
        ("photo.png", "/a/photo.jpg", "their names without the suffix"),
        (2, "/a/holiday2.jpg", "the last number in their names"),
    ):
        caplog.clear()
        _match([key], [photo])
        assert f"1 photos are matched by {how}, such as {photo} with {key}." in caplog.text
    caplog.clear()
    _match(["photo.jpg", "photo.png"], ["/a/photo.jpg"])
    assert "1 images of the file are as near to photos that have poses already, such as /a/photo.jpg with photo.png" in caplog.text  # fmt: skip


@pytest.mark.parametrize("own", ["surfers", "img1", "poses"])
def test_a_file_of_another_name_than_the_only_photo_is_said(own, caplog):
    images = {own: FileImage(own, is_named=False)}
    matching.match(images, [Photo(f"/a/{own.upper()}.jpg")], "file.npy")
    assert not caplog.text
    matching.match(images, [Photo("/a/img2.jpg")], "file.npy")
    assert "file.npy: names no photo; it is taken for the poses of /a/img2.jpg, the only one." in caplog.text  # fmt: skip


def test_names_go_before_ids_in_a_data_set():
    photos = [Photo("a.jpg", 1), Photo("b.jpg", 2)]
    images = {1: FileImage(1, "b.jpg"), 2: FileImage(2, "a.jpg")}
    assert matching.match(images, photos, "f") == {0: 2, 1: 1}
    assert matching.match({"x": FileImage("x")}, [Photo("", 1)], "f") == {}


def test_a_number_as_a_name_is_no_id_of_a_data_set():
    photos = [Photo("1.jpg", 1), Photo("3.jpg", 2), Photo("2.jpg", 3)]
    names = {name: FileImage(name) for name in ("1.jpg", "2.jpg", "3.jpg")}
    assert matching.match(names, photos, "f") == {0: "1.jpg", 1: "3.jpg", 2: "2.jpg"}
    names = {name: FileImage(name) for name in ("1", "2", "3")}  # 1.json, 2.json, 3.json
    assert matching.match(names, photos, "f") == {0: "1", 1: "3", 2: "2"}
    assert matching.match({"7": FileImage("7")}, [Photo("x.jpg", 7)], "f") == {0: "7"}
