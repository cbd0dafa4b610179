"""Images, poses and masks onto the canvas, on the device."""

import functools
import typing

import jax
import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from conftest import augment_options, draw_masks, draw_person, standing_pose, tiny_config

from input_pipeline.coco_human.coco_human_dataset_builder import mask_square
from pose2seg_jax import random_roots
from pose2seg_jax.alignment import affine_align, geometry, pose_noise, sampling, templates
from pose2seg_jax.people import parts
from pose2seg_jax.people.batches import TrainBatch
from pose2seg_jax.training import augment

pytestmark = pytest.mark.usefixtures("quick_compile")

_SIDE = 128


def _to_canvas(config):
    """Compiled: one operation after the other takes ten times as long."""
    options, side, seed = augment_options(config), config.model.image_size, config.seed
    return jax.jit(functools.partial(augment.move_to_canvas, options, side, seed))


@pytest.fixture
def config(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    config.model.image_size = _SIDE
    config.augment.update(flip=True, rotation=30.0, translation=0.05, color=0.0)
    config.augment.scale = (0.6, 1.2)
    return config


def _batch(images, poses, masks, index):
    """One person an image; the images (B, H, W, 3) are their own frames."""
    count, height, width, _ = images.shape
    side = _SIDE * 5 // 4
    frames = np.zeros((count, side, side, 3), np.uint8)
    frames[:, :height, :width] = images
    windows, to_mask = zip(*map(mask_square, masks), strict=True)
    identity = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)
    return TrainBatch(
        frames=frames,
        to_frame=np.stack([identity] * count),
        sizes=np.full((count, 2), [height, width], np.float32),
        views=np.full((count, 4), [0, 0, width, height], np.float32),
        example=np.asarray(index, np.uint32),
        poses=np.asarray(poses, np.float32),
        masks=np.packbits(np.stack(windows).reshape(count, -1), axis=-1),
        to_mask=np.stack(to_mask),
        image_index=np.arange(count, dtype=np.int32),
        valid=np.ones(count, bool),
        person_key=np.arange(1, count + 1, dtype=np.uint32),
        image_poses=np.asarray(poses, np.float32)[:, None],
        ignored=np.packbits(np.stack(windows).reshape(count, -1), axis=-1),
        to_ignored=np.stack(to_mask),
    )


def _person(height, width, size):
    pose = standing_pose(width / 2 - size / 2, (height - size) / 2, size)
    picture = PIL.Image.new("L", (width, height))
    draw_person(PIL.ImageDraw.Draw(picture), pose, 1)
    return pose, np.array(picture)


def test_images_and_poses_go_through_one_transform(config):
    """A dot under every part stays under it; mirrored, under the part of the other side."""
    pose = standing_pose(40, 20, 100)
    y, x = np.mgrid[:140, :150] + 0.5
    dots = [255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py, _ in pose]
    images = np.stack([*dots, dots[0]], -1).reshape(140, 150, 6, 3).transpose(2, 0, 1, 3)
    masks = np.ones((6, 140, 150), np.uint8)
    yy, xx = np.mgrid[:_SIDE, :_SIDE] + 0.5
    checked = {False: 0, True: 0}
    to_canvas = _to_canvas(config)
    for index in range(14):
        canvas = to_canvas(_batch(images.round().astype(np.uint8), [pose] * 6, masks, [index] * 6))
        mirrored = bool(geometry.is_mirrored(canvas.matrices[0]))
        channels = np.asarray(canvas.images).transpose(1, 2, 0, 3).reshape(_SIDE, _SIDE, 18)
        moved = np.asarray(canvas.poses[0])
        for part, channel in enumerate(parts.FLIPPED_PARTS if mirrored else range(17)):
            if moved[part, 2] and np.abs(moved[part, :2] - _SIDE / 2).max() < _SIDE / 2 - 12:
                dot = channels[..., channel].astype(float)
                centroid = [(xx * dot).sum() / dot.sum(), (yy * dot).sum() / dot.sum()]
                np.testing.assert_allclose(centroid, moved[part, :2], atol=0.15)
                checked[mirrored] += 1
    assert min(checked.values()) > 20


def test_noise_is_of_the_poses_only_and_goes_with_the_size_of_the_person(config):
    moved = {}
    for size in (60, 120):
        pose, mask = _person(160, 140, size)
        batch = _batch(np.zeros((64, 160, 140, 3), np.uint8), [pose] * 64, [mask] * 64, range(64))
        config.augment.pose_noise = 0.0
        plain = _to_canvas(config)(batch)
        config.augment.pose_noise = 1.0
        noisy = _to_canvas(config)(batch)
        for name in ("images", "masks", "matrices"):
            np.testing.assert_array_equal(getattr(plain, name), getattr(noisy, name))
        both = (plain.poses[..., 2] > 0) & (noisy.poses[..., 2] > 0)
        distance = np.linalg.norm(noisy.poses[..., :2] - plain.poses[..., :2], axis=-1)
        scale = np.asarray(geometry.scale_of(plain.matrices))[:, None]
        moved[size] = np.median((distance / scale)[np.asarray(both)])
        sigma = np.median(pose_noise.OKS_SIGMAS) * np.sqrt(mask.sum())
        assert 0.2 * sigma < moved[size] < sigma  # levels from 0 to 1
    assert moved[120] == pytest.approx(2 * moved[60], rel=0.2)


@pytest.mark.parametrize("size", [60, 150])
def test_masks_cover_the_person_in_the_image(config, size):
    pose, mask = _person(160, 140, size)
    images = np.repeat(255 * mask[None, ..., None], 3, axis=-1).repeat(8, axis=0)
    canvas = _to_canvas(config)(_batch(images, [pose] * 8, [mask] * 8, range(8)))
    drawn = draw_masks(canvas) > 0.5
    shown = np.asarray(canvas.images[..., 0]) > 127
    assert np.all((drawn & shown).sum((1, 2)) > 0.97 * (drawn | shown).sum((1, 2)))
    x, y, width, height = np.asarray(augment.boxes(canvas)).T
    for i in range(8):
        rows, columns = np.nonzero(shown[i])
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        np.testing.assert_allclose([x[i], y[i], width[i], height[i]], box, atol=1.5)


def test_targets_are_the_share_of_each_cell(config):
    """Against bilinear samples of the same masks: equal but for a sample or two on the edge."""
    pose, mask = _person(160, 140, 150)
    images = np.zeros((8, 160, 140, 3), np.uint8)
    canvas = _to_canvas(config)(_batch(images, [pose] * 8, [mask] * 8, range(8)))
    matrices = affine_align.align_poses(canvas.poses, templates.load(), (_SIDE, _SIDE), 32).matrix
    targets = augment.align_packed_masks(canvas, matrices, 32)
    drawn = sampling.align_masks(draw_masks(canvas), matrices, 32)
    inside = (drawn > 0) & (drawn < 1)
    assert 0.01 < inside.mean() < 0.3
    np.testing.assert_allclose(targets.mean(), drawn.mean(), rtol=0.01)
    np.testing.assert_allclose(targets, drawn, atol=0.3)
    assert np.abs(targets - drawn)[inside].mean() < 0.06


def test_targets_end_at_the_border_of_the_canvas(config):
    """What the canvas cuts off is not asked for: an ROI twice as wide is half empty."""
    config.augment.update(flip=False, rotation=0.0, translation=0.0)
    config.augment.scale = (1.0, 1.0)
    pose = standing_pose(20, 20, 80)
    whole = np.ones((1, _SIDE, _SIDE), np.uint8)
    batch = _batch(np.zeros((1, _SIDE, _SIDE, 3), np.uint8), [pose], whole, [0])
    batch.to_mask[:, 0, 2] -= 64  # the mask begins in the middle of the canvas
    canvas = _to_canvas(config)(batch)
    doubled = np.asarray([[[0.25, 0, -16], [0, 0.25, 0]]], np.float32)  # from x = 64 to 192
    target = np.asarray(augment.align_packed_masks(canvas, doubled, 32))[0]
    np.testing.assert_allclose(target[1:-1, 1:15], 1)
    np.testing.assert_allclose(target[:, 17:], 0)


def test_parts_outside_of_the_canvas_and_persons_without_any_are_missing():
    pose = standing_pose(0, 0, 100)
    identity = np.asarray([[[1, 0, 0], [0, 1, 0]]], np.float32)
    moved = np.asarray(augment.transform_poses(pose[None], identity, 60))[0]
    outside = np.any(pose[:, :2] > 60, axis=1)
    assert outside.any()
    assert not moved[outside].any()
    np.testing.assert_array_equal(moved[~outside], pose[~outside])


def test_persons_off_the_canvas_and_empty_slots_are_not_valid(config):
    config.augment.translation = 0.0
    pose, mask = _person(120, 120, 80)
    empty = np.zeros_like(mask)
    far = pose + np.asarray([500, 0, 0], np.float32)
    images = np.zeros((4, 120, 120, 3), np.uint8)
    batch = _batch(images, [pose, far, pose, pose], [mask, mask, empty, mask], range(4))
    batch.valid[3] = False
    for values in (batch.poses, batch.masks, batch.to_mask):
        values[3] = 0
    canvas = jax.tree.map(np.asarray, _to_canvas(config)(batch))
    assert canvas.valid.tolist() == [True, False, False, False]
    assert all(np.isfinite(values).all() for values in canvas)


def test_colors_change_by_no_more_than_asked():
    keys = jax.random.split(jax.random.key(0), 64)
    gray = np.full((64, 8, 8, 3), 100, np.float32)
    everywhere = np.ones((64, 8, 8), bool)
    changed = np.asarray(augment.jitter_colors(keys, gray, everywhere, 0.2))
    # On grey only brightness shows.
    assert np.abs(changed - 100).max() <= 25.5 + 1e-3
    assert np.abs(changed - 100).max() > 20
    np.testing.assert_allclose(augment.jitter_colors(keys, gray, everywhere, 0.0), gray, rtol=1e-6)
    colors = np.random.RandomState(0).uniform(50, 200, (64, 8, 8, 3)).astype(np.float32)
    changed = np.asarray(augment.jitter_colors(keys, colors, everywhere, 0.2))
    ratio = np.ptp(changed, axis=(1, 2, 3)) / np.ptp(colors, axis=(1, 2, 3))
    assert ratio.min() > 0.6
    assert ratio.max() < 1.5
    assert np.ptp(ratio) > 0.2


def test_colors_leave_the_black_around_an_image_alone():
    keys = jax.random.split(jax.random.key(0), 16)
    images = np.random.RandomState(0).uniform(50, 200, (16, 8, 12, 3)).astype(np.float32)
    inside = np.zeros((16, 8, 12), bool)
    inside[:, :, :8] = True
    around = np.where(inside[..., None], images, 0)
    changed = np.asarray(augment.jitter_colors(keys, around, inside, 0.3))
    assert not changed[~inside].any()
    # The image changes as it would without the black.
    alone = augment.jitter_colors(keys, images[:, :, :8], inside[:, :, :8], 0.3)
    np.testing.assert_allclose(changed[:, :, :8], alone, rtol=1e-4)


def test_the_border_of_the_canvas_stays_black(config):
    config.augment.color = 0.5
    pose, mask = _person(100, 60, 60)
    images = np.full((8, 100, 60, 3), 200, np.uint8)
    config.augment.update(rotation=0.0, translation=0.0)
    config.augment.scale = (1.0, 1.0)
    canvas = _to_canvas(config)(_batch(images, [pose] * 8, [mask] * 8, range(8)))
    shown = np.asarray(canvas.images)
    assert not shown[:, :, :24].any()
    assert not shown[:, :, -24:].any()
    assert np.ptp(shown[:, 64, 64, 0]) > 50  # the image itself varies


def test_uses_of_one_seed_draw_different_numbers():
    names = typing.get_args(random_roots.Root)
    keys = [random_roots.key(0, name) for name in names]
    draws = [float(jax.random.uniform(key)) for key in keys]
    assert len(set(draws)) == len(names)
    # Also from each other's children: a step's jitter is not an example's augmentation.
    folded = {
        float(jax.random.uniform(jax.random.fold_in(key, i))) for key in keys for i in range(8)
    }
    assert len(folded) == 8 * len(names)
    assert float(jax.random.uniform(random_roots.key(1, names[0]))) not in draws


def test_equal_examples_get_equal_transforms_wherever_they_stand(config):
    pose, mask = _person(120, 120, 80)
    images = (
        np.random.RandomState(0).randint(0, 255, (1, 120, 120, 3)).repeat(3, 0).astype(np.uint8)
    )
    canvas = _to_canvas(config)(_batch(images, [pose] * 3, [mask] * 3, [7, 8, 7]))
    np.testing.assert_array_equal(canvas.images[0], canvas.images[2])
    np.testing.assert_array_equal(canvas.matrices[0], canvas.matrices[2])
    assert np.abs(np.asarray(canvas.matrices[0] - canvas.matrices[1])).max() > 0.01
    config.seed += 1
    other = _to_canvas(config)(_batch(images, [pose] * 3, [mask] * 3, [7, 8, 7]))
    assert np.abs(np.asarray(canvas.matrices - other.matrices)).max() > 0.01


def test_the_thinnest_person_has_a_box(config):
    """A strip of a pixel may lie between all centres of the canvas; its box is still its own."""
    pose, _ = _person(120, 120, 80)
    mask = np.zeros((120, 120), np.uint8)
    mask[60, 30:70] = 1
    images = np.zeros((8, 120, 120, 3), np.uint8)
    canvas = _to_canvas(config)(_batch(images, [pose] * 8, [mask] * 8, range(8)))
    _, _, width, height = np.asarray(augment.boxes(canvas)).T
    longest = 40 * np.asarray(geometry.scale_of(canvas.matrices))
    assert np.all(np.hypot(width, height) <= longest + 3)
    assert np.all(np.hypot(width, height) >= 0.8 * longest)
