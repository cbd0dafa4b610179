"""Results files of other methods: scored, or refused by the number of the result."""

import json

import pytest
from conftest import true_results

from pose2seg_jax.evaluation import results_files
from pose2seg_jax.people import coco


def test_bad_results_are_refused_by_number(coco_dir, tmp_path):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    image = dataset.images[0]
    size = [image.height, image.width]
    good = {
        "image_id": image.id,
        "category_id": 1,
        "segmentation": {"size": size, "counts": [image.height * image.width]},
        "score": 0.5,
    }
    path = tmp_path / "results.json"
    for changes, message in (
        ({"score": "high"}, "result 1: 'score' must be a number"),
        ({"score": float("nan")}, "result 1: 'score' must be a number"),
        ({"segmentation": {"size": size[::-1], "counts": "0"}}, r"result 1: .* size that is not"),
        ({"segmentation": {"size": size, "counts": "zz"}}, r"result 1: .* do not add up"),
        ({"segmentation": 5}, r"result 1: .* neither polygons nor RLE; image \d+ is"),
        ({"image_id": [1]}, "result 1: 'image_id' is"),
    ):
        path.write_text(json.dumps([good, good | changes]))
        with pytest.raises(coco.CocoError, match=message):
            results_files.evaluate_file(dataset, path)
    path.write_text(json.dumps([good, good | {"category_id": 5, "segmentation": None}]))
    assert results_files.evaluate_file(dataset, path).rows[0].metrics["AP"] == 0


def test_results_of_other_images_are_refused(coco_dir, tmp_path):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    path = tmp_path / "results.json"
    entry = {"image_id": 5, "category_id": 1, "segmentation": {}, "score": 1}
    path.write_text(json.dumps([entry]))
    with pytest.raises(coco.CocoError, match=r"image_id 5 .* belongs to other images"):
        results_files.evaluate_file(dataset, path)
    first = dataset.images[0].id
    path.write_text(json.dumps([{"image_id": first, "category_id": 1, "segmentation": {}}]))
    with pytest.raises(coco.CocoError, match="result 0 has no 'score'"):
        results_files.evaluate_file(dataset, path)


@pytest.mark.parametrize(
    "name",
    [
        str,
        float,
        lambda number: f"{number:012}.jpg",
        lambda number: f"{number:012}",
        lambda number: f"val2017/{number:012}.JPG",
        lambda number: f"D:\\coco\\{number:012}.png",
    ],
)
def test_results_may_name_their_images_in_any_way_that_is_certain(coco_dir, tmp_path, name):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    results = true_results(dataset)
    path = tmp_path / "results.json"
    path.write_text(json.dumps([r | {"image_id": name(r["image_id"])} for r in results]))
    assert results_files.evaluate_file(dataset, path).rows[0].metrics["AP"] == 1


@pytest.mark.parametrize("category", [0, 18, "person", None])
def test_results_without_a_person_are_refused(coco_dir, tmp_path, category):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    path = tmp_path / "results.json"
    path.write_text(json.dumps([r | {"category_id": category} for r in true_results(dataset)]))
    with pytest.raises(coco.CocoError, match=f"no result has category_id 1, .* they have {category!r}"):  # fmt: skip
        results_files.evaluate_file(dataset, path)


def test_what_is_left_out_of_results_is_counted(coco_dir, tmp_path, caplog):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    results = true_results(dataset)
    path = tmp_path / "results.json"
    path.write_text(json.dumps([*results, results[0] | {"category_id": 18}, *results[:3]]))
    results_files.evaluate_file(dataset, path)
    assert "1 of 16 results have another category_id (18) than 1" in caplog.text
    assert "masks that the file holds twice count as false: 3" in caplog.text
    assert "without a result" not in caplog.text
    some = [r for r in results if r["image_id"] != results[0]["image_id"]]
    path.write_text(json.dumps(some))
    results_files.evaluate_file(dataset, path)
    assert "images of the data set without a result: 1" in caplog.text


def test_a_mask_that_came_out_empty_matches_nobody(coco_dir, tmp_path):
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    results = true_results(dataset)
    path = tmp_path / "results.json"
    for empty in ([], [[1.0, 2.0, 3.0, 4.0]]):
        path.write_text(json.dumps([*results, results[0] | {"segmentation": empty, "score": 0.1}]))
        own = [
            row for row in results_files.evaluate_file(dataset, path).rows if row.scores == "own"
        ]
        assert own[0].metrics["AP"] == 1
