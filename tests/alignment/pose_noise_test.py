"""The levels of pose noise, counted over many persons."""

import jax
import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.alignment import pose_noise
from pose2seg_jax.people.parts import FLIPPED_PARTS

COUNT = 4000


def _perturbed(level, pose=None):
    pose = standing_pose(100, 50, 300) if pose is None else pose
    poses = np.tile(pose, (COUNT, 1, 1))
    keys = jax.random.split(jax.random.key(0), COUNT)
    found = pose_noise.perturb_poses(keys, poses, np.full(COUNT, 400.0, np.float32), level)
    return poses, np.asarray(found)


def test_level_zero_changes_nothing():
    poses, found = _perturbed(0.0)
    np.testing.assert_array_equal(found, poses)


@pytest.mark.parametrize("level", [0.5, 1.0, 2.0])
def test_shares_and_spreads_are_those_of_the_level(level):
    poses, found = _perturbed(level)
    missing = found[..., 2] == 0
    assert missing.mean() == pytest.approx(0.1 * level, rel=0.05)
    assert not np.any(found[missing])
    # Parts are far apart compared with the noise: a swapped one is nearer to the other's place.
    far = [5, 6, 9, 10]
    distance = np.linalg.norm(found[:, far, :2] - poses[:, far, :2], axis=-1)
    other = np.linalg.norm(
        found[:, far, :2] - poses[:, np.asarray(FLIPPED_PARTS)[far], :2], axis=-1
    )
    swapped = (other < distance) & ~missing[:, far]
    assert swapped.sum() / (~missing[:, far]).sum() == pytest.approx(0.05 * level, rel=0.15)
    kept = ~missing[:, far] & ~swapped
    for column, part in enumerate(far):
        rows = kept[:, column]
        moved = found[rows, part, :2] - poses[rows, part, :2]
        assert moved.std() == pytest.approx(level * pose_noise.OKS_SIGMAS[part] * 20, rel=0.05)
    # Both of a pair, or none.
    both = ~missing[:, 5] & ~missing[:, 6]
    assert np.array_equal(swapped[both, 0], swapped[both, 1])


def test_missing_parts_stay_missing_and_a_pair_may_swap_with_one():
    pose = standing_pose(100, 50, 300)
    pose[6] = 0
    _, found = _perturbed(1.0, pose)
    left, right = found[:, 5, 2] > 0, found[:, 6, 2] > 0
    assert not np.any(left & right)
    assert right.mean() == pytest.approx(0.05 * 0.9, rel=0.2)


def test_levels_may_differ_by_person():
    levels = np.where(np.arange(COUNT) < COUNT // 2, 0.0, 1.0).astype(np.float32)
    poses, found = _perturbed(levels)
    np.testing.assert_array_equal(found[: COUNT // 2], poses[: COUNT // 2])
    np.testing.assert_array_equal(found[COUNT // 2 :], _perturbed(1.0)[1][COUNT // 2 :])
