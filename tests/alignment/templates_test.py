"""k-means templates and their file."""

import json

import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.alignment import templates
from pose2seg_jax.people import parts

NAMES = parts.PART_NAMES


def _people():
    """Two kinds of people: whole ones and ones cut off at the hip."""
    rng = np.random.RandomState(0)
    poses, boxes = [], []
    for i in range(40):
        x, y, side = rng.uniform(0, 300), rng.uniform(0, 200), rng.uniform(80, 200)
        pose = standing_pose(x, y, side)
        pose[:, :2] += rng.randn(17, 2) * side * 0.01
        box = [x, y, side, side]
        if i % 4 == 0:
            pose[13:] = 0
            box = [x, y, side, side * 0.55]
        poses.append(pose)
        boxes.append(box)
    return np.array(poses, np.float64), np.array(boxes)


def test_kmeans_finds_full_and_half_bodies():
    made, shares = templates.make_templates(*_people(), num_templates=2)
    np.testing.assert_allclose(shares, [0.75, 0.25])
    assert np.all(made[0, :, 2] > 1.9)
    assert np.all(made[1, 13:] == 0)
    # Centred on the box, aspect kept, with its mirror image in the average: symmetric.
    np.testing.assert_allclose(made[0, 5, 0] + made[0, 6, 0], 1, atol=1e-6)
    np.testing.assert_allclose(made[0, 15, 1], 0.93, atol=0.01)
    np.testing.assert_allclose(made[1, 0, 1], 0.10 + (1 - 0.55) / 2, atol=0.01)


def test_poses_with_few_parts_are_not_used():
    poses, boxes = _people()
    poses[:, 7:] = 0
    with pytest.raises(templates.TemplateError, match="0 of 40 poses have 8 labelled parts"):
        templates.make_templates(poses, boxes, num_templates=2)


def test_save_and_load(tmp_path):
    made, shares = templates.make_templates(*_people(), num_templates=2)
    path = tmp_path / "t.json"
    templates.save(path, made, shares, {"command": "x"})
    np.testing.assert_allclose(templates.load(path), made, atol=1e-4)
    assert len(path.read_text().splitlines()) < 70


def test_the_shipped_templates_are_a_full_and_a_half_body():
    shipped = templates.load()
    assert shipped.shape == (2, 17, 3)
    assert np.all(shipped[0, :, 2] > 0)
    assert np.all(shipped[1, 15:, 2] == 0)


def _valid():
    parts = {name: [0.5, i / 17, 2.0] for i, name in enumerate(NAMES)}
    return {"format": "pose2seg_jax templates 1", "templates": [{"parts": parts}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), "'format' is not"),
        (lambda c: c.update(templates=[]), "'templates' is not a list"),
        (lambda c: c["templates"][0].pop("parts"), "template 0: 'parts' must map"),
        (lambda c: c["templates"][0]["parts"].pop("nose"), "template 0: 'parts' must map each"),
        (lambda c: c["templates"][0]["parts"].update(nose=[0, 0]), "template 0"),
        (lambda c: c["templates"][0]["parts"].update(nose=[0, 0, 3]), r"v must be in \[0, 2\]"),
        (lambda c: c["templates"][0]["parts"].update(nose=[9, 0, 1]), "within 1 of the centre"),
        (
            lambda c: c["templates"][0].update(parts={n: [0.5, 0.5, 0] for n in NAMES}),
            "fewer than two parts",
        ),
    ],
)
def test_invalid_files_are_named(tmp_path, change, message):
    content = _valid()
    path = tmp_path / "t.json"
    path.write_text(json.dumps(content))
    assert templates.load(path).shape == (1, 17, 3)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(templates.TemplateError, match=message) as error:
        templates.load(path)
    assert "t.json" in str(error.value)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(templates.TemplateError, match="cannot be read"):
        templates.load(tmp_path / "none.json")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(templates.TemplateError, match="is no JSON file"):
        templates.load(tmp_path / "b.json")


def test_a_template_of_one_person_far_outside_of_its_box_can_be_loaded(tmp_path):
    rng = np.random.RandomState(0)
    poses = np.stack([standing_pose(0, 0, 100) + rng.randn(17, 3) * [2, 2, 0] for _ in range(20)])
    far = standing_pose(0, 0, 100)
    far[9:, 1] += 300  # what is visible of the person is its upper half, far away
    made, shares = templates.make_templates(
        np.concatenate([poses, far[None]]), np.tile([15.0, 0, 70, 100], (21, 1)), 2
    )
    assert made[1, 9:, 1].min() == 1.5
    path = tmp_path / "t.json"
    templates.save(path, made, shares, {})
    np.testing.assert_allclose(templates.load(path), made, atol=1e-4)
