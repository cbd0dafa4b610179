"""Generated people: proportions, limits, exact masks, visibility, COCO files equal by seed."""

import dataclasses
import itertools

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from input_pipeline.synthetic import body, render, scene
from input_pipeline.synthetic.dataset import Recipe, write
from pose2seg_jax.people import coco
from pose2seg_jax.people.parts import PART_NAMES

_RECIPE = Recipe(train=6, validation=10, size=128, seed=3)


def _part(made, name):
    return made.parts[PART_NAMES.index(name)]


def test_bodies_keep_their_proportions_in_every_pose():
    rng = np.random.default_rng(0)
    for family in body.FAMILIES:
        made = body.pose_body(body.sample_angles(rng, family), stature=1.8)
        for side, (start, end, share) in itertools.product(
            ("left", "right"),
            (
                ("shoulder", "elbow", body.UPPER_ARM),
                ("elbow", "wrist", body.FOREARM),
                ("hip", "knee", body.THIGH),
                ("knee", "ankle", body.SHANK),
            ),
        ):
            length = np.linalg.norm(_part(made, f"{side}_{start}") - _part(made, f"{side}_{end}"))
            assert length == pytest.approx(1.8 * share)


def test_upright_bodies_face_forward_with_left_on_their_left():
    neutral = {
        side + joint: 0.0
        for joint in body.LIMITS
        for side in (("",) if joint.startswith(("spine", "neck")) else ("left_", "right_"))
    }
    made = body.pose_body(neutral, stature=1.8)
    for name in ("eye", "ear", "shoulder", "wrist", "hip", "ankle"):
        assert _part(made, f"left_{name}")[0] > 0 > _part(made, f"right_{name}")[0]
    assert _part(made, "nose")[2] > _part(made, "left_ear")[2]
    heights = [_part(made, f"left_{n}")[1] for n in ("eye", "shoulder", "hip", "knee", "ankle")]
    assert heights == sorted(heights, reverse=True)
    # From the sole to the top of the head it is the stature, within the thickness of shoes and hair.
    tops = [max(c.start[1] + c.start_radius, c.end[1] + c.end_radius) for c in made.capsules]
    soles = [min(c.start[1] - c.start_radius, c.end[1] - c.end_radius) for c in made.capsules]
    assert max(tops) - min(soles) == pytest.approx(1.8, rel=0.04)
    # Flexion goes forward for hips and elbows and backward for knees.
    for joint, moved, sign in (("hip", "knee", 1), ("elbow", "wrist", 1), ("knee", "ankle", -1)):
        bent = body.pose_body(neutral | {f"left_{joint}_flexion": 60.0}, stature=1.8)
        assert sign * (_part(bent, f"left_{moved}") - _part(made, f"left_{moved}"))[2] > 0.1


def test_joints_stay_within_their_limits():
    rng = np.random.default_rng(0)
    for family in body.FAMILIES:
        for _ in range(50):
            for name, angle in body.sample_angles(rng, family).items():
                low, high = body.LIMITS[name.removeprefix("left_").removeprefix("right_")]
                assert low <= angle <= high
    assert body.FAMILY_SHARES.keys() == body.FAMILIES.keys()
    assert sum(body.FAMILY_SHARES.values()) == pytest.approx(1)


def _empty(height=120, width=160, focal=150.0):
    camera = render.Camera(np.diag([1.0, -1, -1]), np.zeros(3), focal, (width / 2, height / 2))
    shape = (height * render.SUPERSAMPLING, width * render.SUPERSAMPLING)
    return render.Canvas(np.zeros((*shape, 3)), np.full(shape, 100.0)), camera


def test_a_ball_is_a_disc_of_the_right_size_in_the_right_place():
    canvas, camera = _empty()
    place = np.asarray([0.4, -0.3, -3.0])
    ball = body.Capsule(place, place, 0.5, 0.5, "")
    canvas.draw_capsule(ball, camera, render.plain(np.ones(3)), np.asarray([0, -1.0, 0]), 1)
    mask = canvas.mask(1)
    assert mask.sum() == pytest.approx(np.pi * (150 * 0.5 / 3) ** 2, rel=0.01)
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose(
        [columns.mean() + 0.5, rows.mean() + 0.5], [80 + 20, 60 + 15], atol=0.3
    )
    np.testing.assert_allclose(camera.project(place[None]), [[100, 75]])
    # Nearer hides farther, whatever is drawn first.
    near = np.asarray([0.4, -0.3, -2.0])
    nearer = body.Capsule(near, near, 0.1, 0.1, "")
    canvas.draw_capsule(nearer, camera, render.plain(np.ones(3)), np.asarray([0, -1.0, 0]), 2)
    canvas.draw_capsule(ball, camera, render.plain(np.ones(3)), np.asarray([0, -1.0, 0]), 1)
    assert canvas.mask(2).sum() == pytest.approx(np.pi * (150 * 0.1 / 2) ** 2, rel=0.1)


def test_a_panel_in_perspective_covers_its_projected_corners():
    canvas, camera = _empty()
    corners = np.asarray([[-0.5, -0.5, -2.0], [0.5, -0.5, -4.0], [-0.5, 0.5, -2.0]])
    canvas.draw_panel(corners, camera, render.plain(np.ones(3)), 1.0, 1)
    quad = camera.project(np.concatenate([corners, [[0.5, 0.5, -4.0]]]))[[0, 1, 3, 2]]
    x, y = quad.T
    area = abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2
    assert canvas.mask(1).sum() == pytest.approx(area, rel=0.02)


def test_scenes_have_disjoint_masks_and_parts_on_them():
    visible = on_mask = hidden = 0
    for index in range(12):
        made = scene.make_scene(
            np.random.default_rng(index), 96, 128, overlap=index % 2 == 0, crowd=index % 4 == 0
        )
        assert made.image.shape == (96, 128, 3)
        masks = [mask_utils.decode(a["segmentation"]) for a in made.annotations]
        assert sum(masks, np.zeros((96, 128))).max() <= 1
        for annotation, mask in zip(made.annotations, masks, strict=True):
            parts = np.asarray(annotation["keypoints"]).reshape(17, 3)
            shown = parts[parts[:, 2] == 2]
            visible += len(shown)
            on_mask += int(mask[shown[:, 1], shown[:, 0]].sum())
            hidden += int(np.sum(parts[:, 2] == 1))
    assert visible > 100
    assert hidden > 20
    assert on_mask == visible


def test_overlap_puts_two_people_in_one_box_with_parts_of_both_in_view():
    pairs, in_view = 0, []
    for index in range(16):
        made = scene.make_scene(np.random.default_rng(index), 96, 128, overlap=True, crowd=False)
        boxes = np.asarray([a["bbox"] for a in made.annotations]).reshape(-1, 4)
        overlap = mask_utils.iou(boxes, boxes, [0] * len(boxes)) - np.eye(len(boxes))
        for annotation in (
            a for a, o in zip(made.annotations, overlap, strict=True) if o.max() > 0.5
        ):
            pairs += 0.5
            parts = np.asarray(annotation["keypoints"]).reshape(17, 3)[:, 2]
            in_view.append(np.sum(parts == 2) / np.sum(parts > 0))
    assert pairs >= 8
    assert np.median(in_view) > 0.35


def test_directories_are_equal_by_seed_and_read_as_coco(tmp_path):
    write(_RECIPE, tmp_path / "one", processes=1)
    write(_RECIPE, tmp_path / "two", processes=2)
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 2 + _RECIPE.train + _RECIPE.validation
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert not list(tmp_path.glob("*.partial"))
    dataset = coco.read(tmp_path / "one/annotations/person_keypoints_val2017.json")
    assert not dataset.skipped
    assert len(dataset.images) == 10
    assert len(dataset.persons()) >= 10
    for person in dataset.persons():
        assert mask_utils.area(person.segmentation) == person.area


def test_recipes_are_named_by_their_content():
    assert Recipe().key() == Recipe().key()
    others = [dataclasses.replace(Recipe(), seed=1), dataclasses.replace(Recipe(), overlap=0.5)]
    assert len({recipe.key() for recipe in [Recipe(), *others]}) == 3


def test_a_config_makes_its_data_once_and_named_by_its_recipe(tmp_path, capsys):
    from configs import synthetic as config_file
    from input_pipeline import synthetic

    options = config_file.get_config().dataset
    options.data_dir = str(tmp_path)
    options.synthetic.train, options.synthetic.validation, options.synthetic.size = 2, 1, 64
    first = synthetic.coco_dir(options)
    assert "makes 3 images" in capsys.readouterr().out
    assert synthetic.coco_dir(options) == first
    assert not capsys.readouterr().out
    options.synthetic.seed = 1
    assert synthetic.coco_dir(options) != first
    options.coco_dir = "elsewhere"
    assert synthetic.coco_dir(options) == "elsewhere"


def test_plain_scenes_show_one_or_two_whole_people():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        made = scene.make_scene(rng, 96, 128, overlap=False, crowd=False, plain=True)
        assert 1 <= len(made.annotations) <= 2
        for annotation in made.annotations:
            points = np.reshape(annotation["keypoints"], (17, 3))
            assert np.all(points[:, :2] >= 0)
            assert np.all(points[:, :2] <= [128, 96])
