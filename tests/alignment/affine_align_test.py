"""Template choice and its policy, the sampler, and the way to the ROI and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.alignment import affine_align, geometry, sampling, templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.training import augment

ROI = 64
SIZE = (480, 640)
_align_poses = jax.jit(affine_align.align_poses, static_argnums=3, static_argnames="reflect")


def _align(pose, size=SIZE, **options):
    size = np.asarray(size, np.float32)
    alignment = _align_poses(pose[None], templates.load(), size, ROI, **options)
    return jax.tree.map(lambda x: np.asarray(x)[0], alignment)


def _keep(pose, parts):
    kept = np.zeros_like(pose)
    kept[list(parts)] = pose[list(parts)]
    return kept


def test_a_standing_person_gets_the_full_body_template():
    alignment = _align(standing_pose(200, 100, 300))
    assert alignment.template == 0
    assert alignment.residual < 5
    assert 0.15 < geometry.scale_of(alignment.matrix) < 64 / 250


def test_an_upside_down_person_is_turned_upright():
    pose = standing_pose(200, 100, 300)
    pose[:, :2] = [640, 480] - pose[:, :2]
    alignment = _align(pose)
    assert alignment.template == 0
    placed = np.asarray(geometry.apply(alignment.matrix, pose[:, :2]))
    assert placed[0, 1] < placed[11, 1] < placed[15, 1]


@pytest.mark.parametrize("parts", [(), (3,)], ids=["no part", "one part"])
def test_too_little_to_fit_falls_back_to_the_whole_image(parts):
    alignment = _align(_keep(standing_pose(200, 100, 300), parts))
    assert alignment.template == affine_align.FALLBACK
    np.testing.assert_allclose(
        alignment.matrix, geometry.letterbox(jnp.asarray(SIZE, jnp.float32), ROI), atol=1e-5
    )


def test_coincident_parts_fall_back():
    pose = np.tile(np.array([[321.5, 200.5, 2]], np.float32), (17, 1))
    alignment = _align(pose)
    assert alignment.template == affine_align.FALLBACK
    assert np.all(np.isfinite(alignment.matrix))


def test_two_parts_fit_exactly_and_are_covered():
    pose = _keep(standing_pose(200, 100, 300), (5, 11))
    alignment = _align(pose)
    assert alignment.residual < 1e-2
    placed = np.asarray(geometry.apply(alignment.matrix, pose[[5, 11], :2]))
    assert np.all((placed >= 0) & (placed <= ROI))


def test_collinear_parts_prefer_the_unmirrored_fit():
    pose = standing_pose(200, 100, 300)
    pose[:, 0] = 320
    alignment = _align(pose)
    assert np.all(np.isfinite(alignment.matrix))
    assert not alignment.mirrored


def test_a_mirrored_candidate_wins_where_it_fits_better():
    template = templates.load()[:1].copy()
    template[0, :, 0] += 0.2 * (template[0, :, 1] - 0.5)  # leans to one side
    pose = np.concatenate([template[0, :, :2] * 300 + 100, template[0, :, 2:]], 1)
    mirrored = pose * [-1, 1, 1] + [640, 0, 0]
    for leaning, expected in ((pose, False), (mirrored, True)):
        alignment = affine_align.align_poses(leaning[None].astype(np.float32), template, SIZE, ROI)
        assert bool(alignment.mirrored[0]) is expected
        assert alignment.residual[0] < 1e-2
    plain = affine_align.align_poses(
        mirrored[None].astype(np.float32), template, SIZE, ROI, reflect=False
    )
    assert not plain.mirrored[0]


def test_must_cover_excludes_templates_without_the_part():
    both = templates.load()
    half = int(np.argmin((both[:, :, 2] > 0).sum(1)))
    pose = standing_pose(200, 100, 300)
    assert np.any(both[half, 15:, 2] == 0)
    alignment = affine_align.align_poses(pose[None], both[half : half + 1], SIZE, ROI)
    assert alignment.fallback[0]


def test_must_magnify_excludes_persons_larger_than_the_image():
    pose = standing_pose(-300, 10, 1500)
    pose[(pose[:, 0] < 0) | (pose[:, 0] > 640) | (pose[:, 1] > 480)] = 0
    alignment = _align(pose)
    smallest = float(geometry.scale_of(geometry.letterbox(jnp.asarray(SIZE, jnp.float32), ROI)))
    assert geometry.scale_of(alignment.matrix) >= smallest * 0.9999


def test_real_persons_are_covered_and_never_shrink_below_the_letterbox(real_dataset):
    people = [(i, p) for i in real_dataset.images for p in i.posed]
    poses = np.stack([p.pose for _, p in people])
    sizes = np.array([(i.height, i.width) for i, _ in people], np.float32)
    alignment = affine_align.align_poses(poses, templates.load(), sizes, ROI)
    placed = np.asarray(geometry.apply(alignment.matrix, poses[..., :2]))
    labelled = poses[..., 2] > 0
    outside = np.any((placed < -1e-2) | (placed > ROI + 1e-2), axis=-1) & labelled
    # A keypoint may lie on the border row of the image, half a pixel outside of what is covered.
    assert outside.sum() <= 2
    scales = np.asarray(geometry.scale_of(alignment.matrix))
    assert np.all(scales >= 0.9999 * ROI / sizes.max(1))
    assert np.mean(alignment.fallback) < 0.2
    assert np.all(np.asarray(alignment.template) < 2)
    # No person of more than two parts and some size shrinks to a few cells.
    boxes = np.stack([p.bbox[2:].max() for _, p in people])
    told = labelled.sum(1) > 2
    assert np.quantile(boxes[told] * scales[told], 0.01) > 9


@pytest.mark.usefixtures("quick_compile")
def test_gradients_are_finite_for_all_kinds_of_poses(real_poses):
    degenerate = np.stack(
        [
            np.zeros((17, 3), np.float32),
            _keep(standing_pose(0, 0, 100), (0,)),
            np.tile(np.array([[5, 5, 2]], np.float32), (17, 1)),
            _keep(standing_pose(0, 0, 100), (0, 1)),
        ]
    )
    poses = jnp.asarray(np.concatenate([degenerate, real_poses[:40]]))

    def loss(poses):
        alignment = affine_align.align_poses(poses, templates.load(), SIZE, ROI)
        return jnp.sum(alignment.matrix**2) + jnp.sum(alignment.residual)

    value, gradient = jax.value_and_grad(loss)(poses)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_persons_are_aligned_independently_with_one_compilation(real_poses):
    traces = []

    @jax.jit
    def align(poses):
        traces.append(1)
        return affine_align.align_poses(poses, templates.load(), SIZE, ROI)

    together = align(real_poses[:32])
    align(real_poses[32:64])
    assert len(traces) == 1
    for i in range(0, 32, 4):
        alone = affine_align.align_poses(real_poses[i : i + 1], templates.load(), SIZE, ROI)
        np.testing.assert_allclose(together.matrix[i], alone.matrix[0], rtol=1e-4, atol=1e-3)
        assert together.template[i] == alone.template[0]


def test_jitter_stays_within_its_limits():
    matrices = np.tile(np.array([[[0.2, 0, 3], [0, 0.2, 5]]], np.float32), (200, 1, 1))
    jittered = np.asarray(
        augment.jitter_matrices(
            jax.random.split(jax.random.key(0), 200),
            matrices,
            ROI,
            rotation=30.0,
            scale=0.2,
            translation=0.1,
        )
    )
    change = np.asarray(geometry.compose(jittered, geometry.invert(matrices)))
    scale = np.asarray(geometry.scale_of(change))
    angle = np.rad2deg(np.arctan2(change[:, 0, 1], change[:, 0, 0]))
    shift = np.asarray(geometry.apply(change, np.full((200, 1, 2), ROI / 2, np.float32)))[:, 0] - 32
    assert 0.8 <= scale.min() < 0.84
    assert 1.16 < scale.max() <= 1.2
    assert 25 < np.abs(angle).max() <= 30
    assert 5 < np.abs(shift).max() <= 6.4 + 1e-3


def test_whole_numbers_are_taken_for_what_they_are():
    """As floats: a rounded share of a cell, or weight of a pixel, is no result."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 255, (1, 20, 30, 3))
    matrix, index = np.array([[[0.4, 0.1, 1], [-0.1, 0.4, 2]]], np.float32), np.zeros(1, int)
    expected = sampling.align_to_roi(images.astype(np.float32), index, matrix, 8)
    assert np.any(np.asarray(expected) % 1)
    for kind in (np.uint8, np.int64):
        found = sampling.align_to_roi(images.astype(kind), index, matrix, 8)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    masks = images[..., 0] > 100
    expected = sampling.align_masks(masks.astype(np.float32), matrix, 8)
    for kind in (np.uint8, bool):
        found = sampling.align_masks(masks.astype(kind), matrix, 8)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    pose = np.round(standing_pose(100, 50, 300))[None]
    plain, whole = (
        affine_align.align_poses(pose.astype(kind), templates.load(), (480, 640), 64)
        for kind in (np.float32, np.int32)
    )
    assert not plain.fallback[0]
    np.testing.assert_allclose(plain.matrix, whole.matrix, rtol=1e-5)
    integers = np.array([[2, 0, 3], [0, 2, 0]])
    np.testing.assert_allclose(
        geometry.from_pixel_indices(integers),
        geometry.from_pixel_indices(integers.astype(np.float32)),
    )
    with pytest.raises(UserError, match="poses: expected an array of real numbers"):
        geometry.as_floats(np.array([1j]), "poses")
