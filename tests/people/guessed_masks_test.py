"""Persons whose masks are guessed, by hand."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from pose2seg_jax.people import coco, guessed_masks

_HEIGHT, _WIDTH = 60, 80


def _rle(y0, y1, x0, x1):
    mask = np.zeros((_HEIGHT, _WIDTH), np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    rle = mask_utils.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def _keypoints(x, y):
    return [x, y, 2, *[0, 0, 0] * 16]


def _person(number, x, box, **more):
    return {
        "id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "keypoints": _keypoints(x, 20),
        "num_keypoints": 1, "bbox": list(box), "area": box[2] * box[3], **more,
    }  # fmt: skip


def _content(*annotations):
    image = {"id": 1, "file_name": "1.jpg", "height": _HEIGHT, "width": _WIDTH}
    return {
        "images": [image],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "person"}],
    }


def _result(x, segmentation, score=0.9):
    keypoints = [float(value) for value in _keypoints(x, 20)]
    return {
        "image_id": 1, "category_id": 1, "segmentation": segmentation, "score": score,
        "mask_score": score, "keypoints": keypoints,
    }  # fmt: skip


@pytest.fixture
def split(tmp_path):
    """A COCO-layout directory with one person, in columns 0 to 20 of its image, and a file of four more."""
    own = _person(1, 10, (0, 10, 20, 40), segmentation=_rle(10, 50, 0, 20))
    for folder in ("train2017", "val2017"):
        (tmp_path / "coco" / folder).mkdir(parents=True)
        path = tmp_path / "coco" / "annotations" / f"person_keypoints_{folder}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(_content(own)))
    more = [
        _person(7, 10, (0, 10, 20, 40)),  # the same, by another id
        _person(8, 25, (17, 10, 18, 40)),
        _person(9, 45, (40, 10, 10, 40)),
        _person(10, 70, (60, 10, 20, 40)),
    ]
    (tmp_path / "poses.json").write_text(json.dumps(_content(*more)))
    results = [
        _result(10, _rle(10, 50, 0, 20)),
        _result(25, _rle(5, 55, 12, 40)),  # larger than its box, and over the person with a mask
        _result(45, _rle(10, 30, 40, 50)),  # half of its box
        _result(70, _rle(10, 50, 60, 80), 0.5),  # not sure
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def _write(split, output="out"):
    paths = (split / name for name in ("coco", "poses.json", "results.json", output))
    return guessed_masks.write(*paths)


def test_a_guess_is_cut_to_its_box_and_leaves_other_persons_alone(split):
    made = _write(split)
    assert [entry["id"] for entry in made.annotations] == [8]
    found = mask_utils.decode(made.annotations[0]["segmentation"])
    np.testing.assert_array_equal(found, mask_utils.decode(_rle(10, 50, 20, 35)))
    assert made.left_out == {
        "mask is annotated": 1,
        "guess does not fill the box, or is not sure": 2,
    }
    trained = coco.read(split / "out" / "annotations" / "person_keypoints_train2017.json")
    assert [person.id for person in trained.persons()] == [1, 8]
    np.testing.assert_allclose(trained.persons()[1].bbox, [20, 10, 15, 40])
    whole = coco.read(split / "out" / "annotations" / "person_keypoints_val2017.json")
    assert len(whole.persons()) == 1
    assert (split / "out" / "train2017").resolve() == (split / "coco" / "train2017").resolve()


def test_the_program_says_what_it_added(split, monkeypatch, capsys):
    named = {"coco_dir": "coco", "poses": "poses.json", "results": "results.json", "output": "out"}
    arguments = [f"--{name}={split / value}" for name, value in named.items()]
    monkeypatch.setattr("sys.argv", ["guessed_masks", *arguments])
    guessed_masks.main()
    assert "1 persons with guessed masks added" in capsys.readouterr().out
    with pytest.raises(coco.CocoError, match="is there already"):
        guessed_masks.main()


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "holds no mask for a person"),
        ({"masks": []}, "is no COCO results file"),
        ([_result(25, {"size": [3, 3], "counts": "0"})], "person 8 in image 1: 'segmentation'"),
    ],
)
def test_results_that_cannot_be_used_are_refused(split, results, message):
    (split / "results.json").write_text(json.dumps(results))
    with pytest.raises(coco.CocoError, match=message):
        _write(split)
    assert not (split / "out").exists()


def test_an_image_of_another_size_is_refused(split):
    content = json.loads((split / "poses.json").read_text())
    content["images"][0]["width"] = 100
    (split / "poses.json").write_text(json.dumps(content))
    with pytest.raises(coco.CocoError, match="image 1 is 100x60, but 80x60 in"):
        _write(split)
