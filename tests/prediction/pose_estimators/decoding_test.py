"""Maps to poses: against a reference by NumPy, against pycocotools' OKS, and by hand."""

import jax
import numpy as np
import pytest
from conftest import standing_pose
from pycocotools.cocoeval import COCOeval

from pose2seg_jax.models.movenet import MoveNet, PoseMaps
from pose2seg_jax.people.parts import FLIPPED_PARTS
from pose2seg_jax.prediction.pose_estimators import decoding
from pose2seg_jax.prediction.pose_estimators.decoding import PoseCandidates
from pose2seg_jax.weights import movenet_files

FLIPPED = np.asarray(FLIPPED_PARTS)


def _maps(height, width):
    """Maps of an image without anybody."""
    return PoseMaps(
        np.full((height, width), -20, np.float32),
        np.zeros((height, width, 2), np.float32),
        np.zeros((height, width, 2), np.float32),
        np.full((height, width, 17), -20, np.float32),
        np.zeros((height, width, 17, 2), np.float32),
        np.zeros((height, width, 17, 2), np.float32),
    )


def _add(maps, pose, *, center=4.0, part=3.0):
    """Writes a person into maps, whose parts are at `pose` (pixels)."""
    cells = pose[:, 1::-1] / 4
    first, last = cells.min(0), cells.max(0)
    row, column = ((first + last) / 2).astype(int)
    maps.centers[row, column] = center
    maps.box_sizes[row, column] = last - first + 4
    maps.regressed[row, column] = cells - [row, column]
    for index, place in enumerate(cells):
        y, x = place.astype(int)
        maps.parts[y, x, index] = part
        maps.part_offsets[y, x, index] = place - [y, x]


def _batch(maps):
    return jax.tree.map(lambda values: values[None], maps)


def _mirror(maps):
    """The maps that the mirrored image would have, by the meaning of each."""
    width = maps.centers.shape[1]
    flipped = PoseMaps(*(values[:, ::-1].copy() for values in maps))
    for values in (flipped.box_offsets, flipped.regressed, flipped.part_offsets):
        values[..., 1] = 1 - values[..., 1]
    assert width == flipped.centers.shape[1]
    return flipped._replace(
        parts=flipped.parts[..., FLIPPED],
        regressed=flipped.regressed[..., FLIPPED, :],
        part_offsets=flipped.part_offsets[..., FLIPPED, :],
    )


@pytest.mark.parametrize("image_id", [785, 343218, 91406, 1000])
def test_poses_are_those_of_the_reference_on_real_images(data_dir, image_id):
    golden = np.load(data_dir / "golden/movenet.npz")

    @jax.jit
    def find(variables, image):
        maps = jax.tree.map(lambda values: values[0], MoveNet().apply(variables, image))
        return decoding.without_duplicates(decoding.decode(maps), decoding.SAME_PERSON_OKS)

    found = find(movenet_files.load(), golden[f"{image_id}/input"][None])
    kept = np.asarray(found.scores) >= 0.02
    poses, scores = golden[f"{image_id}/built_poses"], golden[f"{image_id}/built_scores"]
    assert kept.sum() == len(poses)
    np.testing.assert_allclose(found.scores[kept], scores, atol=1e-4)
    np.testing.assert_allclose(found.part_scores[kept], poses[..., 2], atol=1e-3)
    seen = poses[..., 2] > 0.05
    assert seen.sum() > 10
    np.testing.assert_allclose(found.points[kept][seen], poses[..., :2][seen], atol=0.05)


def test_more_people_than_the_original_has_room_for():
    maps = _maps(64, 96)
    poses = [standing_pose(10 + 70 * i, 20 + 120 * j, 90) for i in range(5) for j in range(2)]
    for pose in poses:
        _add(maps, pose)
    found = decoding.decode(maps)
    known = np.asarray(found.scores) > 0.1
    assert known.sum() == 10
    for pose in poses:
        gaps = np.abs(found.points[known] - 0.25 - pose[:, :2]).max(axis=(1, 2))
        assert gaps.min() < 1e-3
    logistic = 1 / (1 + np.exp(-np.array([4.0, 3.0])))
    assert found.scores[0] == pytest.approx(np.sqrt(logistic[0]) * logistic[1], abs=0.1)


def test_nobody_has_score_0():
    assert np.max(decoding.decode(_maps(8, 8)).scores) < 1e-6


def test_a_person_is_found_in_the_mirror():
    maps = _maps(40, 40)
    _add(maps, standing_pose(30, 20, 110))
    there_and_back = decoding.mirrored(_batch(_mirror(maps)))
    for found, expected in zip(there_and_back, maps, strict=True):
        np.testing.assert_allclose(found[0], expected, atol=1e-6)
    mean = decoding.mean_with_mirrored(_batch(maps), _batch(_mirror(maps)))
    found = decoding.decode(jax.tree.map(lambda values: values[0], mean), is_mean=True)
    # The bias to the left is gone, that upwards is not.
    expected = standing_pose(30, 20, 110)[:, :2] + [0, 0.25]
    np.testing.assert_allclose(found.points[0], expected, atol=1e-3)


def test_oks_is_that_of_pycocotools():
    rng = np.random.RandomState(0)
    points = (rng.rand(6, 17, 2) * 20 + 50).astype(np.float32)
    areas = np.full(6, 900, np.float32)
    evaluation = COCOeval(iouType="keypoints")
    people = [
        {
            "keypoints": np.concatenate([pose, np.full((17, 1), 2)], axis=1).ravel().tolist(),
            "num_keypoints": 17, "area": 900.0, "bbox": [50, 50, 20, 20], "iscrowd": 0, "ignore": 0, "score": 1.0,
        }
        for pose in points
    ]  # fmt: skip
    evaluation._gts[1, 1], evaluation._dts[1, 1] = people, people
    expected = evaluation.computeOks(1, 1)
    np.testing.assert_allclose(decoding.oks(points, areas), expected, atol=1e-5)


def squares(count, area):
    return np.broadcast_to(np.asarray([0, 0, area**0.5, area**0.5], np.float32), (count, 4))


def test_the_surest_of_a_person_is_kept_and_a_neighbour_stays():
    first = standing_pose(10, 10, 100)[:, :2]
    points = np.stack([first + 1, first, first + np.array([60, 0]), first + 2]).astype(np.float32)
    scores = np.asarray([0.5, 0.9, 0.3, 0.7], np.float32)
    candidates = PoseCandidates(points, np.ones((4, 17), np.float32), scores, squares(4, 4e3))  # fmt: skip
    found = decoding.without_duplicates(candidates, 0.7)
    np.testing.assert_allclose(found.scores, [0.9, 0, 0, 0.3])
    np.testing.assert_array_equal(found.points[0], points[1])
    # Who is dropped drops nobody: 0 and 2 are too far from each other, 1 is like both.
    chain = np.stack([first, first + 9, first + 18]).astype(np.float32)
    candidates = PoseCandidates(chain, np.ones((3, 17), np.float32), np.asarray([0.9, 0.8, 0.7], np.float32), squares(3, 4e3))  # fmt: skip
    similar = np.asarray(decoding.oks(chain, candidates.areas))
    limit = float((similar[0, 1] + similar[0, 2]) / 2)
    np.testing.assert_allclose(decoding.without_duplicates(candidates, limit).scores, [0.9, 0, 0.7])


def test_coordinates_move_with_their_boxes():
    candidates = PoseCandidates(np.ones((2, 17, 2), np.float32), np.ones((2, 17)), np.ones(2), squares(2, 9.0))  # fmt: skip
    matrix = np.asarray([[2, 0, 5], [0, 2, 7]], np.float32)
    found = decoding.moved(candidates, matrix)
    np.testing.assert_allclose(found.points, np.broadcast_to([7, 9], (2, 17, 2)))
    np.testing.assert_allclose(found.boxes, np.broadcast_to([5, 7, 11, 13], (2, 4)))
    np.testing.assert_allclose(found.areas, [36, 36])
