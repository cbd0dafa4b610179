"""COCO records: what is read, what is skipped and counted, what is refused and how it is named."""

import json

import numpy as np
import pytest
from conftest import ROOT
from pycocotools import mask as mask_utils

from pose2seg_jax.errors import UserError
from pose2seg_jax.people import coco, masks
from pose2seg_jax.people.json_files import JsonError

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
POSE = [12, 15, 2, 20, 16, 1] + [0] * 45


def _annotation(**changes):
    return {
        "id": 7,
        "image_id": 3,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "keypoints": POSE,
        "num_keypoints": 2,
        "segmentation": [SQUARE],
    } | changes


def _content(*annotations, **changes):
    return {
        "images": [{"id": 3, "file_name": "3.jpg", "height": 48, "width": 64}],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}],
    } | changes


def _read(tmp_path, content, name="file.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return coco.read(path)


def test_a_person_is_read_in_continuous_coordinates(tmp_path):
    (person,) = _read(tmp_path, _content(_annotation())).persons()
    np.testing.assert_array_equal(person.pose[:2], [[12.5, 15.5, 2], [20.5, 16.5, 1]])
    assert not person.pose[2:].any()
    assert mask_utils.area(person.segmentation) == 400


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        [SQUARE, [1.0, 2.0, 3.0, 4.0]],  # a polygon of two points is left out
        {"size": [48, 64], "counts": [490, 20] + [28, 20] * 19 + [1650]},
    ],
    ids=["polygon", "polygon and a line", "RLE"],
)
def test_segmentations_of_all_kinds_are_one_mask(tmp_path, segmentation):
    (person,) = _read(tmp_path, _content(_annotation(segmentation=segmentation))).persons()
    assert mask_utils.decode(person.segmentation)[10:30, 10:30].all()
    assert mask_utils.area(person.segmentation) == 400


def test_compressed_rle_and_crowds(tmp_path):
    rle = mask_utils.frPyObjects([SQUARE], 48, 64)[0]
    rle["counts"] = rle["counts"].decode()
    crowd = _annotation(id=8, iscrowd=1, keypoints=[0] * 51, num_keypoints=0, segmentation=rle)
    dataset = _read(tmp_path, _content(_annotation(), crowd))
    assert [p.id for p in dataset.persons()] == [7]
    assert [p.is_crowd for p in dataset.images[0].persons] == [False, True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bbox": [10, 10, 0, 20]}, "box without area"),
        ({"bbox": [10, 10, float("nan"), 20]}, "box without area"),
        ({"segmentation": [[1.0, 2.0, 3.0, 4.0]]}, "no polygon of three points"),
        ({"segmentation": []}, "no polygon of three points"),
        ({"segmentation": [[1e12, 0.0, 5.0, 5.0, 0.0, 9.0]]}, "polygons far outside"),
        ({"segmentation": [[float("nan")] * 6]}, "finite"),
        ({"segmentation": {"size": [48, 64], "counts": [48 * 64]}}, "empty mask"),
        ({"segmentation": {"size": [48, 63], "counts": [48 * 63]}}, "size that is not"),
        ({"segmentation": {"size": [48, 64], "counts": [5]}}, "do not add up"),
        ({"segmentation": {"size": [48, 64], "counts": [-1, 48 * 64 + 1]}}, "do not add up"),
        ({"segmentation": {"size": [48, 64], "counts": ["5"]}}, "do not add up"),
        ({"segmentation": {"size": [48, 64], "counts": "zz"}}, "do not add up"),
        ({"segmentation": {"size": [48, 64], "counts": "\u00e9 "}}, "do not add up"),
        ({"segmentation": {"size": [48, 64], "counts": None}}, "do not add up"),
        ({"segmentation": {"size": [48, 64], "counts": "P" * 12 + "0"}}, "do not add up"),
        ({"segmentation": [[10**400] * 6]}, "not lists of finite numbers"),
        ({"segmentation": [[-(2**63)] * 6]}, "polygons far outside"),
        ({"segmentation": {"size": 5, "counts": "0"}}, "size that is not"),
        ({"segmentation": [{"x": 1}]}, "not lists of finite numbers"),
        ({"segmentation": [["1", "2", "3", "4", "5", "6"]]}, "not lists of finite numbers"),
        ({"segmentation": [[[1, 2], [3, 4], [5, 6]]]}, "not lists of finite numbers"),
        ({"segmentation": "x"}, "neither polygons nor RLE"),
        ({"segmentation": None}, "neither polygons nor RLE"),
        ({"bbox": [70, 10, 20, 20]}, "box outside the image"),
        ({"keypoints": [500, 15, 2] + [0] * 48, "num_keypoints": 1}, "keypoints outside"),
    ],
)
def test_unusable_persons_are_skipped_and_counted(tmp_path, caplog, changes, reason):
    dataset = _read(tmp_path, _content(_annotation(**changes), _annotation(id=9)))
    assert [p.id for p in dataset.persons()] == [9]
    assert [ids for why, ids in dataset.skipped.items() if reason in why] == [[7]]
    assert "skipped 1 annotations" in caplog.text
    assert ": 7" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_content(_annotation(keypoints=POSE[:-1])), "annotation 7: 'keypoints' must hold 51"),
        (_content(_annotation(keypoints=["a"] * 51)), "annotation 7: 'keypoints' must be a list"),
        (_content(_annotation(keypoints=[float("nan")] * 51)), "annotation 7.*not finite"),
        (_content(_annotation(keypoints=[1, 1, 5] * 17)), "annotation 7.*(num_keypoints|v must)"),
        (_content(_annotation(num_keypoints=5)), "annotation 7: 'num_keypoints' is 5, but 2"),
        (_content(_annotation(), _annotation()), "the id 7 stands twice in 'annotations'"),
        (_content(_annotation(image_id=4)), "annotation 7: its image_id 4 is not in 'images'"),
        (_content(_annotation(image_id=[3])), r"annotation 7: its image_id \[3\] is not in"),
        (_content(_annotation(id="7")), r"annotations\[0\] must have a whole number as 'id'"),
        (_content(_annotation(area=10**400)), "annotation 7: 'area' must be a number"),
        (_content(_annotation(bbox=[10**400, 1, 1, 1])), "annotation 7: 'bbox' must be"),
        (_content(_annotation(keypoints=[10**400] * 51)), "annotation 7: 'keypoints' must be"),
        (_content(categories=None), "has no list 'categories'"),
        (_content(5), r"annotations\[0\] must be an object, not int"),
        (_content(_annotation(bbox=["a", 1, 2, 3])), "annotation 7: 'bbox' must be"),
        (_content(_annotation(bbox=[1, 2])), r"annotation 7: 'bbox' must be"),
        (_content(_annotation(area=None)), r"annotation 7: 'area' must be a number of pixels"),
        (_content(images=[{"id": 3}]), "image 3: 'file_name' must be a name, not None"),
        (_content(images=_content()["images"] * 2), "the id 3 stands twice in 'images'"),
        (_content(images=["3.jpg"]), r"images\[0\] must be an object, not str"),
        (_content(categories=[{"id": 1, "name": "cat"}]), "no category 'person'"),
        ({"images": []}, "no COCO annotation file: it has no list 'annotations'"),
        ([], "no COCO annotation file"),
        ("{", "is no JSON file"),
        ("", "is no JSON file"),
    ],
)
def test_files_that_contradict_themselves_are_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        _read(tmp_path, content)
    assert "file.json" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(JsonError, match=r"nowhere\.json: cannot be read"):
        coco.read(tmp_path / "nowhere.json")


def test_full_files_must_have_the_known_counts(tmp_path, monkeypatch):
    monkeypatch.setitem(coco.FULL_FILES, "person_keypoints_val2017.json", (1, 1, 2))
    with pytest.raises(coco.CocoError, match="has 1 images and 2 persons"):
        _read(tmp_path, _content(_annotation()), "person_keypoints_val2017.json")
    with pytest.raises(coco.CocoError, match="1 images and 2 persons"):  # skipped or not
        _read(tmp_path, _content(_annotation(bbox=[1, 1, 0, 0])), "person_keypoints_val2017.json")
    monkeypatch.setitem(coco.FULL_FILES, "person_keypoints_val2017.json", (1, 1, 1))
    assert _read(tmp_path, _content(_annotation()), "person_keypoints_val2017.json").persons()


def test_occluded_pairs(tmp_path):
    boxes = [[0, 0, 10, 10], [0, 0, 10, 19], [30, 30, 5, 5]]
    people = [_annotation(id=i, bbox=box) for i, box in enumerate(boxes)]
    (image,) = _read(tmp_path, _content(*people)).images
    assert [p.id for p in coco.occluded_pairs(image)] == [0, 1]
    assert not coco.occluded_pairs(image, 0.6)


def test_compressed_runs_are_those_of_pycocotools():
    rng = np.random.RandomState(0)
    for density in (0.0, 0.01, 0.5, 1.0):
        mask = np.asfortranarray(rng.rand(300, 500) < density).astype(np.uint8)
        runs = masks.decompress_runs(mask_utils.encode(mask)["counts"])
        expected = mask_utils.frPyObjects({"size": [300, 500], "counts": runs}, 300, 500)
        assert sum(runs) == mask.size
        np.testing.assert_array_equal(mask_utils.decode(expected), mask)


def test_the_counts_of_the_paper(data_dir, capsys, monkeypatch):
    path = data_dir / "coco/annotations/cocohuman_val2017_poses.json"
    monkeypatch.setattr("sys.argv", ["coco", str(path)])
    coco.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {
        "images": 2346,
        "persons": 6352,
        "oc_images": 44,
        "oc_persons": 88,
    }


def test_masks_of_real_persons_have_their_annotated_area(real_dataset):
    persons = real_dataset.persons()
    assert len(persons) == 724
    areas = np.array([mask_utils.area(p.segmentation) for p in persons])
    annotated = np.array([p.area for p in persons])
    # COCO's area is that of the polygon; overlapping polygons of a person count twice there.
    assert np.median(np.abs(areas / annotated - 1)) < 0.01


@pytest.mark.parametrize(
    "name", ["../../x.png", "/etc/x.png", "a/../../x.png", "..\\x.png", "C:\\x.png", "C:x.png"]
)
def test_file_names_that_lead_out_of_the_directory_are_refused(tmp_path, name):
    content = _content(_annotation())
    content["images"][0]["file_name"] = name
    with pytest.raises(coco.CocoError, match="leads out of the image directory"):
        _read(tmp_path, content)
    content["images"][0]["file_name"] = "below/x..png"
    assert _read(tmp_path, content).images[0].file_name == "below/x..png"


def test_images_with_more_pixels_than_a_mask_counts_are_refused(tmp_path):
    content = _content(_annotation())
    content["images"][0] |= {"width": 70_000, "height": 70_000}
    with pytest.raises(coco.CocoError, match="70000x70000, more pixels than a mask can hold"):
        _read(tmp_path, content)
    with pytest.raises(ValueError, match="more pixels than a mask can hold"):
        masks.encode_mask(
            np.ones((4, 4), np.float32), np.eye(2, 3, dtype=np.float32), 70_000, 70_000
        )


def test_whole_numbers_may_be_written_as_floats(tmp_path):
    content = _content(_annotation(image_id=3.0, id=1.0))
    content["images"] = [{"id": 3.0, "file_name": "3.jpg", "height": 48.0, "width": 64.0}]
    dataset = _read(tmp_path, content)
    assert [(image.id, image.height, image.width) for image in dataset.images] == [(3, 48, 64)]
    assert all(type(image.height) is int for image in dataset.images)
    assert type(dataset.persons()[0].id) is int
    content["images"][0]["height"] = 48.5
    with pytest.raises(coco.CocoError, match=r"'height' must be a whole number, not 48\.5"):
        _read(tmp_path, content)


@pytest.mark.parametrize("content", [[785, 139], {"validation": [785, 139], "train": [1]}])
def test_a_list_says_which_images_count(tmp_path, content):
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 5, "width": 5} for i in (139, 632, 785)]
    found = coco.read(tmp_path / "x.json", {"images": images, "annotations": []})
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps(content))
    kept = coco.with_listed_images(found, listed, "validation")
    assert [image.id for image in kept.images] == [139, 785]
    listed.write_text("[785, 4]")
    with pytest.raises(
        coco.CocoError, match=r"list\.json: names 1 images that .*x\.json does not hold: 4\."
    ):
        coco.with_listed_images(found, listed, "validation")
    listed.write_text('{"test": [785]}')
    with pytest.raises(coco.CocoError, match="no object with such a list 'validation'"):
        coco.with_listed_images(found, listed, "validation")


def test_the_lists_of_the_packages_model_are_those_of_the_real_split(real_dataset):
    listed = json.loads((ROOT / "configs/coco_human_lite_images.json").read_text())
    assert listed["validation"] == [image.id for image in real_dataset.images]
    assert set(listed["tune"]) < set(listed["train"])
    assert not set(listed["train"]) & set(listed["validation"])
