"""Reading pixels along an alignment, against SciPy and OpenCV."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from pycocotools import mask as mask_utils

from pose2seg_jax.alignment import affine_align, geometry, sampling, skeleton, templates
from pose2seg_jax.people import parts

ROI = 64


def _random_matrices(rng, count, low=0.3, high=2.0):
    angle = rng.uniform(-np.pi, np.pi, count)
    scale = rng.uniform(low, high, count)
    mirror = rng.choice([-1, 1], count)
    linear = np.stack(
        [
            np.stack([mirror * scale * np.cos(angle), scale * np.sin(angle)], -1),
            np.stack([-mirror * scale * np.sin(angle), scale * np.cos(angle)], -1),
        ],
        axis=-2,
    )
    offset = 32 - linear @ np.array([20.0, 15.0]) + rng.uniform(-5, 5, (count, 2))
    return np.concatenate([linear, offset[..., None]], -1).astype(np.float32)


def test_the_sampler_equals_scipy():
    rng = np.random.RandomState(0)
    images = rng.rand(3, 30, 40, 2).astype(np.float32)
    matrices = _random_matrices(rng, 6)
    index = np.array([0, 1, 2, 2, 1, 0])
    rois = sampling.align_to_roi(images, index, matrices, ROI)
    y, x = np.mgrid[:ROI, :ROI] + 0.5
    for n in range(6):
        homogeneous = np.concatenate([matrices[n], [[0, 0, 1]]])
        source = np.linalg.inv(homogeneous)[:2] @ np.stack([x.ravel(), y.ravel(), np.ones(ROI**2)])
        for c in range(2):
            expected = scipy.ndimage.map_coordinates(
                np.pad(images[index[n], ..., c], 1),
                (source[::-1] - 0.5) + 1,
                order=1,
                mode="grid-constant",
            )
            np.testing.assert_allclose(np.asarray(rois[n, ..., c]).ravel(), expected, atol=2e-4)


def test_the_gradient_of_the_sampler_is_its_transpose():
    rng = np.random.RandomState(1)
    images = jnp.asarray(rng.rand(1, 10, 12, 1), jnp.float32)
    matrices = _random_matrices(rng, 1, 1.0, 3.0)
    weights = jnp.asarray(rng.rand(1, 16, 16, 1), jnp.float32)

    def loss(images):
        return jnp.sum(weights * sampling.align_to_roi(images, jnp.zeros(1, int), matrices, 16))

    gradient = jax.grad(loss)(images)
    # The sampler is linear, so <gradient, images> is the loss itself.
    np.testing.assert_allclose(jnp.sum(gradient * images), loss(images), rtol=1e-5)


def test_a_disc_keeps_its_centroid():
    rng = np.random.RandomState(2)
    y, x = np.mgrid[:200, :240] + 0.5
    for matrix in _random_matrices(rng, 8, 0.35, 0.6):
        center = np.asarray(geometry.apply(geometry.invert(matrix), jnp.full((1, 2), 32.0)))[0]
        matrix[:, 2] += matrix[:, :2] @ (center - [120.3, 101.8])
        fine = np.clip(30.5 - np.hypot(x - 120.3, y - 101.8), 0, 1).astype(np.float32)
        roi = sampling.align_masks(fine[None], matrix[None], ROI)
        back = np.asarray(sampling.reverse_align(roi, matrix[None], 200, 240))[0]
        for axis in (x, y):
            before = np.sum(axis * fine) / np.sum(fine)
            assert abs(np.sum(axis * back) / np.sum(back) - before) < 0.05
        binary, inside = back > 0.5, fine > 0.5
        assert (binary & inside).sum() / (binary | inside).sum() > 0.97


def test_masks_are_averaged_over_the_area_of_a_cell():
    mask = np.zeros((1, 32, 32), np.float32)
    mask[:, :, :10] = 1
    matrix = np.array([[[0.25, 0, 0], [0, 0.25, 0]]], np.float32)  # a cell is 4 x 4 pixels
    roi = np.asarray(sampling.align_masks(mask, matrix, 8))
    np.testing.assert_allclose(roi[0, 3], [1, 1, 0.5, 0, 0, 0, 0, 0], atol=1e-6)


def test_reverse_align_keeps_the_values_of_border_cells():
    rois = np.ones((1, 8, 8), np.float32)
    matrix = np.array([[[1, 0, -2], [0, 1, -3]]], np.float32)
    back = np.asarray(sampling.reverse_align(rois, matrix, 16, 16))[0]
    expected = np.zeros((16, 16))
    expected[3:11, 2:10] = 1
    np.testing.assert_array_equal(back, expected)


def test_a_rotated_mirrored_cropped_person_comes_back(real_dataset):
    """Image -> ROI -> image: pose, skeleton and mask agree about where the person is."""
    image, person = max(
        ((i, p) for i in real_dataset.images for p in i.posed),
        key=lambda pair: (pair[1].pose[:, 2] > 0).sum() * 1e6 + pair[1].area,
    )
    mask = mask_utils.decode(person.segmentation).astype(np.float32)
    turn = np.deg2rad(40)
    linear = np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * 0.8
    center = np.array([image.width, image.height]) / 2
    warp = np.concatenate([linear, (center - linear @ center)[:, None]], 1).astype(np.float32)
    assert geometry.is_mirrored(warp)
    side = 512
    moved = np.array(
        sampling.align_to_roi(mask[None, ..., None], np.zeros(1, int), warp[None], side)
    )[..., 0]
    moved[:, 420:] = 0  # cropped
    points = np.asarray(geometry.apply(warp, person.pose[:, :2]))
    pose = np.concatenate([points, person.pose[:, 2:]], 1)[list(parts.FLIPPED_PARTS)]
    outside = np.any((pose[:, :2] < 0) | (pose[:, :2] > [side, 420]), axis=1)
    pose[outside | (pose[:, 2] == 0)] = 0
    pose = pose.astype(np.float32)

    alignment = affine_align.align_poses(pose[None], templates.load(), (420, side), ROI)
    roi = sampling.align_masks(moved, alignment.matrix, ROI)
    back = np.asarray(sampling.reverse_align(roi, alignment.matrix, side, side))[0] > 0.5
    true = moved[0] > 0.5
    assert (back & true).sum() / (back | true).sum() > 0.95

    placed = geometry.apply(alignment.matrix, pose[None, :, :2])
    drawn = skeleton.skeleton_features(jnp.concatenate([placed, pose[None, :, 2:]], -1), ROI)
    for part in np.flatnonzero(pose[:, 2] > 0):
        row, column = np.unravel_index(np.argmax(np.abs(drawn[0, ..., part])), (ROI, ROI))
        peak = np.array([[column + 0.5, row + 0.5]], np.float32)
        found = np.asarray(geometry.apply(geometry.invert(alignment.matrix[0]), peak))[0]
        cell = 1 / float(geometry.scale_of(alignment.matrix[0]))
        assert np.hypot(*(found - pose[part, :2])) < 0.75 * cell
