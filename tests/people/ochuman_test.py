"""OCHuman in its own format and in its COCO export."""

import copy
import json
import pathlib

import numpy as np
import pytest
import skimage.draw
from conftest import tiny_config, tiny_weights
from pycocotools import mask as mask_utils

from pose2seg_jax.people import coco, ochuman, parts
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.program import data


@pytest.fixture
def ochuman_dir(data_dir):
    if not (data_dir / "ochuman").is_dir():
        pytest.skip(f"{data_dir}: holds no ochuman/")
    return data_dir / "ochuman"


@pytest.fixture
def native(ochuman_dir):
    return ochuman_dir / "native"


def _content(native):
    return json.loads((native / "ochuman.json").read_text())


def _convert(content, subset="all", iou_range=(0.0, 1.0)):
    return ochuman.convert(content, pathlib.Path("ochuman.json"), subset, iou_range)


def test_the_own_format_becomes_coco(native, tmp_path, caplog):
    dataset = ochuman.write(native / "ochuman.json", native / "images", tmp_path / "out")
    # Of 29 boxes 16 have a pose and a mask.
    assert (len(dataset.posed_images), len(dataset.persons())) == (10, 16)
    assert "13 persons have no pose or no mask" in caplog.text
    assert "'area' is that of the box" in caplog.text
    assert dataset.name == "OCHuman all, max IoU 0 to 1"
    assert (tmp_path / "out/val2017/000001.jpg").is_file()

    content = _content(native)
    names = content["keypoint_names"]
    images = dict(enumerate(content["images"], start=1))
    for image in dataset.posed_images:
        theirs = [p for p in images[image.id]["annotations"] if p["keypoints"] and p["segms"]]
        for ours, person in zip(image.posed, theirs, strict=True):
            x1, y1, x2, y2 = person["bbox"]
            assert ours.bbox.tolist() == [x1, y1, x2 - x1, y2 - y1]
            assert ours.area == (x2 - x1) * (y2 - y1)
            for part, name in enumerate(parts.PART_NAMES):
                x, y, v = person["keypoints"][3 * names.index(name) :][:3]
                assert ours.pose[part, 2] == {0: 0, 1: 2, 2: 2, 3: 1}[v]
                if v:
                    np.testing.assert_allclose(ours.pose[part, :2], [x + 0.5, y + 0.5], atol=1e-4)
            # Another rasteriser, at pixel centres.
            expected = np.zeros((image.height, image.width), bool)
            for kind, value in (("outer", True), ("inner", False)):
                for polygon in person["segms"][kind]:
                    points = np.reshape(polygon, (-1, 2)) - 0.5
                    rows, columns = skimage.draw.polygon(points[:, 1], points[:, 0], expected.shape)
                    expected[rows, columns] = value
            mask = mask_utils.decode(ours.segmentation) > 0
            assert np.sum(mask & expected) / np.sum(mask | expected) > 0.97


def test_the_export_is_read_as_it_is(ochuman_dir, tmp_path, caplog):
    folder = ochuman_dir / "coco_format"
    dataset = ochuman.write(folder / "test_ochuman.json", folder / "images", tmp_path)
    assert (len(dataset.posed_images), len(dataset.persons())) == (3, 5)
    assert "'area' is that of the box" in caplog.text
    with pytest.raises(coco.CocoError, match="is an export of one subset already"):
        ochuman.write(folder / "test_ochuman.json", folder / "images", tmp_path, "val")


def test_subsets_and_ranges(native):
    content = _content(native)
    # As large as the dataset: the same ten images again and again, in no order.
    large = {**content, "images": []}
    for number in np.random.RandomState(0).permutation(2600).tolist():
        image = copy.copy(content["images"][number % 10])
        large["images"].append({**image, "image_id": f"{number:06}"})
    for number, image in enumerate(large["images"]):
        image["file_name"] = f"{image['image_id']}-{number}.jpg"
    val, test = (_convert(large, subset)["images"] for subset in ("val", "test"))
    names = [int(image["file_name"].split("-")[0]) for image in val + test]
    assert names == list(range(2600))
    # Numbered like the authors' export of the subset.
    assert [image["id"] for image in val] == list(range(1, 2501))
    assert [image["id"] for image in test] == list(range(1, 101))

    values = sorted(
        p["max_iou"]
        for image in content["images"]
        for p in image["annotations"]
        if p["keypoints"] and p["segms"]
    )
    middle = values[8]
    below, above = (_convert(content, iou_range=r) for r in ((0.0, middle), (middle, 1.0)))
    counts = [len(part["annotations"]) for part in (below, above)]
    assert sum(counts) == 16
    assert counts[0] == sum(value < middle for value in values)  # [low, high)
    assert all(any(a["image_id"] == i["id"] for a in below["annotations"]) for i in below["images"])


def test_a_full_file_must_have_its_counts(native):
    content = _content(native)
    content["images"] = [
        {**content["images"][0], "image_id": str(number)} for number in range(5081)
    ]
    with pytest.raises(coco.CocoError, match="the full OCHuman has 4731 images and 8110 persons"):
        _convert(content)


def _set(person, **fields):
    person.update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: _set(p, bbox=[1, 2, 3]), r"image 000001, person 0 .*'bbox' must be \[x1"),
        (lambda p: _set(p, max_iou=None), "'max_iou' must be a number, not None"),
        (lambda p: _set(p, keypoints=[1, 2, 3]), "'keypoints' must hold x, y, v of each part"),
        (lambda p: p["keypoints"].__setitem__(2, 7), r"visibility 7.0 must be 0, 1, 2 or 3"),
        (lambda p: p["segms"].pop("outer"), "'segms' must hold polygons"),
        (lambda p: p["segms"].update(width=7), "is of an image of 7x300"),
        (lambda p: _set(p, segms=3), "'segms' must hold polygons"),
    ],
    ids=["box", "iou", "keypoints", "visibility", "outer", "size", "number"],
)
def test_bad_persons_are_named(native, change, message):
    content = _content(native)
    change(next(p for p in content["images"][0]["annotations"] if p["segms"]))
    with pytest.raises(coco.CocoError, match=message):
        _convert(content)


def test_a_person_without_a_usable_polygon_is_skipped_and_named(native, tmp_path):
    content = _content(native)
    first, second = (p for p in content["images"][0]["annotations"] if p["segms"])
    first["segms"]["outer"] = [[1, 2, 3, 4]]
    second["segms"]["inner"] = [[1, 2, 3, 4]]
    changed = tmp_path / "ochuman.json"
    changed.write_text(json.dumps(content))
    dataset = ochuman.write(changed, native / "images", tmp_path / "out")
    assert dataset.skipped == {"segmentation: empty mask": [1]}
    assert len(dataset.persons()) == 15


def test_other_data_is_not_overwritten(native, tmp_path, monkeypatch):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    precious = tmp_path / "annotations/person_keypoints_val2017.json"
    precious.write_text("{}")
    with pytest.raises(coco.CocoError, match=r"val2017\.json: is other data, which would be"):
        ochuman.write(native / "ochuman.json", native / "images", tmp_path)
    assert precious.read_text() == "{}"
    # Also not where COCO's images are a link, as many keep them, or where the file itself is one.
    (tmp_path / "val2017").rmdir()
    (tmp_path / "val2017").symlink_to(native / "images", target_is_directory=True)
    with pytest.raises(coco.CocoError, match="is other data, which would be overwritten"):
        ochuman.write(native / "ochuman.json", native / "images", tmp_path)
    assert precious.read_text() == "{}"
    linked = tmp_path / "linked"
    (linked / "annotations").mkdir(parents=True)
    (linked / "annotations/person_keypoints_val2017.json").symlink_to(precious)
    with pytest.raises(coco.CocoError, match="is other data, which would be overwritten"):
        ochuman.write(native / "ochuman.json", native / "images", linked)
    assert precious.read_text() == "{}"
    # Nor is it where the home directory is written with a tilde.
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(coco.CocoError, match="is other data, which would be overwritten"):
        ochuman.write(native / "ochuman.json", native / "images", pathlib.Path("~/linked"))
    assert precious.read_text() == "{}"
    (tmp_path / "own").mkdir()
    for _ in range(2):  # its own output may be written again
        ochuman.write(native / "ochuman.json", native / "images", tmp_path / "own")


def test_other_files_and_missing_images_are_named(native, tmp_path):
    for content in ([], {"images": []}, {"images": [3], "keypoint_names": []}):
        with pytest.raises(coco.CocoError, match="is neither OCHuman's own file"):
            _convert(content)
    content = _content(native)
    with pytest.raises(coco.CocoError, match="image 3: has no valid 'image_id'"):
        _convert({**content, "images": [3]})
    with pytest.raises(coco.CocoError, match=r"10 images, such as 000001\.jpg missing"):
        ochuman.write(native / "ochuman.json", tmp_path, tmp_path / "out")


@pytest.mark.usefixtures("quick_compile")
def test_it_is_evaluated_like_coco(native, tmp_path):
    ochuman.write(native / "ochuman.json", native / "images", tmp_path / "ochuman")
    config = tiny_config(tmp_path / "ochuman", tmp_path / "tfds")
    made = tiny_weights()
    table = data.open_evaluator(config, Network(made.spec)).run(made.variables)
    assert len(table.results) == 16
    assert table.rows[0].data == "OCHuman all, max IoU 0 to 1 (16 persons)"
