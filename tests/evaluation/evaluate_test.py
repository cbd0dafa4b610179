"""The COCO protocol against pycocotools called directly; the rows of the table."""

import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose2seg_jax.evaluation import evaluate
from pose2seg_jax.people import coco


def _results(dataset, erode=0, seed=0):
    """True masks, some shifted, as COCO results."""
    rng = np.random.RandomState(seed)
    results = []
    for image in dataset.images:
        for person in image.posed:
            mask = mask_utils.decode(person.segmentation)
            if erode:
                mask = np.roll(mask, rng.randint(-erode, erode + 1, 2), (0, 1))
            rle = mask_utils.encode(np.asfortranarray(mask))
            rle["counts"] = rle["counts"].decode()
            results.append(
                {
                    "image_id": image.id,
                    "category_id": 1,
                    "segmentation": rle,
                    "score": float(rng.rand()),
                    "person_id": person.id,
                }
            )
    return results


def test_metrics_equal_pycocotools(real_dataset, data_dir, tmp_path):
    results = _results(real_dataset, erode=12)
    ours = evaluate.segmentation_metrics(evaluate.ground_truth(real_dataset.posed_images), results)

    # The same by hand: COCO's own file without the persons that have no pose.
    content = json.loads(real_dataset.path.read_text())
    content["annotations"] = [
        a for a in content["annotations"] if a["num_keypoints"] > 0 and not a["iscrowd"]
    ]
    truth_file, results_file = tmp_path / "truth.json", tmp_path / "results.json"
    truth_file.write_text(json.dumps(content))
    evaluate.save_results(results_file, results)
    truth = COCO(str(truth_file))
    evaluation = COCOeval(truth, truth.loadRes(str(results_file)), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    expected = dict(
        zip(["AP", "AP50", "AP75", "_", "AP-M", "AP-L"], evaluation.stats, strict=False)
    )
    for name in ("AP", "AP50", "AP75", "AP-M", "AP-L"):
        np.testing.assert_allclose(ours[name], expected[name], atol=1e-9)
    evaluation.params.areaRng = [[32**2, 1e10]]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, -1]
    np.testing.assert_allclose(ours["AP(M+L)"], precision[precision > -1].mean(), atol=1e-9)


def test_perfect_masks_score_one_and_pairs_are_counted(real_dataset):
    results = _results(real_dataset)
    evaluation = evaluate.evaluate_results(real_dataset.images, results, "truth", posed=True)
    by_name = {(row.data, row.scores): row.metrics for row in evaluation.rows}
    assert by_name["COCOHUMAN (724 persons)", "1.0"]["AP"] == pytest.approx(1)
    assert by_name["COCOHUMAN-OC, 5 images, members (10 persons)", "own"]["AP"] == pytest.approx(1)
    # The others in the images of the pairs are false positives, unless left out.
    assert by_name["COCOHUMAN-OC, 5 images, all (10 persons)", "1.0"]["AP"] < 1
    assert by_name["box IoU > .3 (ours), 17 images, members (46 persons)", "1.0"]["AP"] > 0.99
    table = evaluation.table()
    assert table.splitlines()[0].split() == ["data", "predictions", "scores", *evaluate.COLUMNS]
    assert len({len(line) for line in table.splitlines()[2:-1]}) == 1
    assert table.splitlines()[-1] == "mean IoU of the persons' own masks: 1.000"
    assert evaluation.summary()["AP (scores 1.0)"] == pytest.approx(1)


def test_finding_persons_without_a_pose_costs_nothing_where_they_are_ignored(real_dataset):
    everyone = [
        {"image_id": i.id, "category_id": 1, "segmentation": p.segmentation, "score": 0.5}
        for i in real_dataset.posed_images
        for p in i.persons
        if not p.is_crowd
    ]
    rows = evaluate.evaluate_results(real_dataset.images, everyone, "x", posed=False).rows
    by_name = {(row.data, row.scores): row.metrics["AP"] for row in rows}
    dropped = by_name["COCOHUMAN (724 persons)", "1.0"]
    ignored = by_name["COCOHUMAN, others ignored (724 persons)", "1.0"]
    assert dropped < 0.95
    assert ignored > 0.99
    assert not any("members" in row.data for row in rows)


def test_no_results_and_no_masks():
    empty = coco.Image(1, "a.jpg", 10, 10, None, ())
    metrics = evaluate.segmentation_metrics(evaluate.ground_truth([empty]), [])
    assert all(np.isnan(value) for value in metrics.values())
    person = coco.Person(5, 1, np.ones((17, 3), np.float32), np.ones(4), 1.0, None, False)
    with pytest.raises(coco.CocoError, match="annotation 5 of image 1: has no 'segmentation'"):
        evaluate.ground_truth([coco.Image(1, "a.jpg", 10, 10, None, (person,))])


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, ["start 0", "finish 0"]),
        (3, ["start 0", "start 1", "finish 0", "start 2", "finish 1", "finish 2"]),
    ],
)
def test_the_next_batch_starts_before_one_is_finished(count, expected):
    events = []

    def batches():
        for number in range(count):
            events.append(f"start {number}")
            yield number

    for number in evaluate._one_ahead(batches()):
        events.append(f"finish {number}")
    assert events == expected
