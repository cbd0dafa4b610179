"""The COCO protocol against pycocotools called directly; the rows of the table."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import true_results
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose2seg_jax.evaluation import coco_protocol, results_files
from pose2seg_jax.people import coco
from pose2seg_jax.people.parts import OKS_SIGMAS


def test_metrics_equal_pycocotools(real_dataset, data_dir, tmp_path):
    results = true_results(real_dataset, shift=12)
    ours = coco_protocol.segmentation_metrics(
        coco_protocol.ground_truth(real_dataset.posed_images), results
    )

    # The same by hand: COCO's own file without the persons that have no pose.
    content = json.loads(real_dataset.path.read_text())
    content["annotations"] = [
        a for a in content["annotations"] if a["num_keypoints"] > 0 and not a["iscrowd"]
    ]
    truth_file, results_file = tmp_path / "truth.json", tmp_path / "results.json"
    truth_file.write_text(json.dumps(content))
    results_files.save_results(results_file, results)
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
    results = true_results(real_dataset)
    evaluation = coco_protocol.evaluate_results(
        real_dataset.images, results, "truth", annotated=True
    )
    by_name = {(row.data, row.scores): row.metrics for row in evaluation.rows}
    assert by_name["COCOHUMAN (724 persons)", "1.0"]["AP"] == pytest.approx(1)
    assert by_name["COCOHUMAN-OC, 5 images, members (10 persons)", "own"]["AP"] == pytest.approx(1)
    # The others in the images of the pairs are false positives, unless left out.
    assert by_name["COCOHUMAN-OC, 5 images, all (10 persons)", "1.0"]["AP"] < 1
    assert by_name["box IoU > .3 (ours), 17 images, members (46 persons)", "1.0"]["AP"] > 0.99
    table = evaluation.table()
    assert table.splitlines()[0].split() == [
        "data",
        "predictions",
        "scores",
        *coco_protocol.COLUMNS,
    ]
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
    rows = coco_protocol.evaluate_results(real_dataset.images, everyone, "x", annotated=False).rows
    by_name = {(row.data, row.scores): row.metrics["AP"] for row in rows}
    dropped = by_name["COCOHUMAN (724 persons)", "1.0"]
    ignored = by_name["COCOHUMAN, others ignored (724 persons)", "1.0"]
    assert dropped < 0.95
    assert ignored > 0.99
    assert not any("members" in row.data for row in rows)


def test_poses_are_scored_as_pycocotools_scores_them(real_dataset, data_dir, tmp_path):
    rng = np.random.RandomState(0)
    results = []
    for image in real_dataset.posed_images:
        for person in image.posed:
            moved = person.pose[:, :2] - 0.5 + rng.randn(17, 2) * np.sqrt(person.area) * 0.08
            keypoints = np.concatenate([moved, np.ones((17, 1))], axis=1).round(2)
            results.append(
                {
                    "image_id": image.id, "category_id": 1, "keypoints": keypoints.ravel().tolist(),
                    "score": 0.5, "pose_score": float(rng.rand()), "segmentation": person.segmentation,
                }
            )  # fmt: skip
    found = coco_protocol.evaluate_results(
        real_dataset.images, results, "noise", annotated=False
    ).rows[4]
    assert found.data == "COCOHUMAN, poses, others ignored (724 persons)"
    assert found.scores == "pose"

    truth = COCO(str(data_dir / "coco/annotations/person_keypoints_val2017.json"))
    fields = ("image_id", "category_id", "keypoints")
    plain = [{f: r[f] for f in fields} | {"score": r["pose_score"]} for r in results]
    evaluation = COCOeval(truth, truth.loadRes(plain), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.1 < evaluation.stats[0] < 0.9
    for column, value in zip(
        ("AP", "AP50", "AP75", "AP-M", "AP-L"), evaluation.stats, strict=False
    ):
        assert found.metrics[column] == pytest.approx(value, abs=1e-9), column

    # The poses that match, by hand: in an image, the surest first, each to the person who is most alike and not taken.
    matched = set()
    for image in real_dataset.posed_images:
        numbers = [n for n, r in enumerate(plain) if r["image_id"] == image.id]
        numbers.sort(key=lambda n: -plain[n]["score"])
        left = {person.id: person for person in image.posed}
        for n in numbers[:20]:
            points = np.reshape(plain[n]["keypoints"], (17, 3))[:, :2]
            alike = {}
            for person in left.values():
                seen = person.pose[:, 2] > 0
                squared = np.sum((points - (person.pose[:, :2] - 0.5)) ** 2, axis=1)
                spread = (
                    (2 * OKS_SIGMAS.astype(np.float64)) ** 2 * (person.area + np.spacing(1)) * 2
                )
                alike[person.id] = np.mean(np.exp(-squared / spread)[seen])
            best = max(alike, key=alike.get, default=None)
            if best is not None and alike[best] >= 0.5:
                matched.add(n)
                del left[best]
    numbers = coco_protocol.matching_poses(coco_protocol.keypoint_ground_truth(real_dataset.posed_images), plain)  # fmt: skip
    assert 100 < len(numbers) < 700
    assert set(numbers) == matched
    rows = coco_protocol.evaluate_results(
        real_dataset.images, results, "noise", annotated=False
    ).rows
    assert rows[5].data == f"COCOHUMAN, {len(matched)} poses that match (724 persons)"
    assert [row.scores for row in rows[5:8]] == ["1.0", "own", "pose"]
    assert rows[5].metrics["AP"] == pytest.approx(len(matched) / 724, abs=0.02)  # of true masks


@pytest.mark.parametrize(
    "change", [{"keypoints": None}, {"keypoints": []}, {"keypoints": [1, 2, 3]}, {"keypoints": [0] * 399}, {"pose_score": "x"}]
)  # fmt: skip
def test_results_with_other_keypoints_are_scored_by_their_masks(real_dataset, change):
    images = real_dataset.posed_images[:2]
    result = {"category_id": 1, "score": 1.0, "keypoints": [1.0] * 51}
    results = [{**result, "image_id": i.id, "segmentation": i.posed[0].segmentation} for i in images]  # fmt: skip
    names = [row.scores for row in coco_protocol.evaluate_results(images, results, "x", annotated=False).rows]  # fmt: skip
    assert "pose" in names
    results[1] |= change
    names = [row.scores for row in coco_protocol.evaluate_results(images, results, "x", annotated=False).rows]  # fmt: skip
    assert "pose" not in names


def test_no_results_and_no_masks():
    empty = coco.Image(1, "a.jpg", 10, 10, None, ())
    metrics = coco_protocol.segmentation_metrics(coco_protocol.ground_truth([empty]), [])
    assert all(np.isnan(value) for value in metrics.values())
    person = coco.Person(5, 1, np.ones((17, 3), np.float32), np.ones(4), 1.0, None, False)
    with pytest.raises(coco.CocoError, match="annotation 5 of image 1: has no 'segmentation'"):
        coco_protocol.ground_truth([coco.Image(1, "a.jpg", 10, 10, None, (person,))])


def test_a_crowd_without_a_mask_is_ignored_as_its_box(real_dataset):
    """It neither counts nor fails the evaluation; whoever is found in its box costs nothing."""
    image = real_dataset.posed_images[0]
    crowd = coco.Person(
        10**9,
        image.id,
        np.zeros((17, 3), np.float32),
        np.array([2.0, 3, 60, 50]),
        3000.0,
        None,
        True,
    )
    images = [dataclasses.replace(image, persons=(*image.persons, crowd))]
    coco_protocol.ground_truth(images)
    kept = coco_protocol.ground_truth(images, ignore_others=True)["annotations"]
    (ignored,) = [a for a in kept if a["id"] == 10**9]
    assert ignored["iscrowd"] == 1
    far = dataclasses.replace(crowd, bbox=np.array([-1e3, -1e3, 5e3, 5e3]))
    images = [dataclasses.replace(image, persons=(*image.persons, far))]
    whole = coco_protocol.ground_truth(images, ignore_others=True)["annotations"][-1]
    assert mask_utils.area(whole["segmentation"]) == image.height * image.width
    mask = mask_utils.decode(ignored["segmentation"])
    assert mask.sum() == 3000
    assert mask[3:53, 2:62].all()
