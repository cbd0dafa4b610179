"""Groups of persons and their AP, by hand."""

import dataclasses

import numpy as np
import pytest
from conftest import true_results
from pycocotools import mask as mask_utils

from pose2seg_jax.evaluation import breakdown, charts, coco_protocol
from pose2seg_jax.people import coco


@pytest.fixture
def dataset(coco_dir):
    return coco.read(coco_dir / "annotations/person_keypoints_val2017.json")


def _results(dataset, wrong=()):
    """The true masks, but empty ones of some persons."""
    persons = {person.id: person for person in dataset.persons()}
    results = true_results(dataset)
    for entry in results:
        person = persons[entry["person_id"]]
        entry["keypoints"] = coco.format_keypoints(person.pose)
        size = person.segmentation["size"]
        if person.id in wrong:
            mask = np.zeros(size, np.uint8, order="F")
            mask[0, 0] = 1
            entry["segmentation"] = mask_utils.encode(mask)
    return results


def test_everybody_has_the_iou_of_the_own_mask(dataset):
    wrong = dataset.persons()[-1].id
    masks = breakdown.person_masks(dataset.images, _results(dataset, {wrong}))
    assert [mask.person.id for mask in masks] == [person.id for person in dataset.persons()]
    assert masks[-1].iou < 0.1
    assert [mask.iou for mask in masks[:-1]] == pytest.approx([1] * (len(masks) - 1))
    np.testing.assert_allclose(masks[0].pose, masks[0].person.pose)
    for mask in masks:
        pairs = coco.occluded_pairs(mask.image, mask.overlap - 1e-6)
        assert mask.overlap == 0 or mask.person.id in {person.id for person in pairs}


def test_reasons_are_what_the_annotation_shows(dataset):
    image = next(image for image in dataset.images if len(image.posed) > 1)
    masks = breakdown.person_masks([image], _results(dataset))
    for mask in masks:
        assert "most labelled parts lie outside of the annotated mask" not in mask.reasons()
    pose = masks[0].person.pose.copy()
    pose[:, :2] = 1.5  # the corner of the image, where nobody is
    moved = dataclasses.replace(masks[0].person, pose=pose)
    wrong = dataclasses.replace(masks[0], person=moved, overlap=0.5)
    assert wrong.reasons() == [
        "most labelled parts lie outside of the annotated mask",
        "another person's box overlaps",
    ]
    pose[3:] = 0
    few = dataclasses.replace(moved, pose=pose)
    assert "few labelled parts" in dataclasses.replace(masks[0], person=few).reasons()


def test_groups_count_their_own_persons_and_masks_only(dataset):
    wrong = {person.id for person in dataset.images[0].posed}
    masks = breakdown.person_masks(dataset.images, _results(dataset, wrong))
    found = breakdown.groups(masks)
    for kind in {group.kind for group in found}:
        assert sum(group.persons for group in found if group.kind == kind) == len(masks)
    only = [mask for mask in masks if mask.person.id not in wrong]
    for group in breakdown.groups(only):
        assert group.unit == group.own == pytest.approx(1)
        assert group.mean_iou == pytest.approx(1)
    for group in breakdown.groups([mask for mask in masks if mask.person.id in wrong]):
        assert group.unit == group.own == 0


def test_all_persons_in_one_group_have_the_ap_of_the_table(dataset, monkeypatch):
    monkeypatch.setattr(breakdown, "KINDS", {"all": (lambda mask: 1, (("0 and more", 0, 2),))})
    several = next(image for image in dataset.images if len(image.posed) > 1)
    results = _results(dataset, {several.posed[-1].id})  # of equal scores, the first counts first
    rows = coco_protocol.evaluate_results(dataset.images, results, "ours", annotated=True).rows
    (group,) = breakdown.groups(breakdown.person_masks(dataset.images, results))
    assert group.unit == pytest.approx(rows[0].metrics["AP"])
    assert group.own == pytest.approx(rows[1].metrics["AP"])
    assert 0 < group.own < 1
    assert group.label == "0 and more"


def test_charts_show_their_numbers(dataset):
    masks = breakdown.person_masks(dataset.images, _results(dataset))
    found = [group for group in breakdown.groups(masks) if group.kind == "labelled parts"]
    drawn = {
        charts.bars("labelled parts", found): "By labelled parts",
        charts.reliability(masks): "Is the own score the IoU?",
        charts.robustness({0.0: {"own scores": 0.6}, 1.0: {"own scores": 0.5}}): "own scores",
        charts.learning_curve("loss", [(1, 2.0), (2, 1.0)]): "loss",
    }
    for chart, title in drawn.items():
        assert chart.startswith("<figure><svg")
        assert f"<!-- {title} -->" in chart  # as matplotlib names what it draws
