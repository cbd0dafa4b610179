"""The pose estimator of the package, on the photos that come with it."""

import pickle

import numpy as np
import PIL.Image
import pytest
from conftest import ROOT

from pose2seg_jax.people import coco
from pose2seg_jax.people.parts import FLIPPED_PARTS, OKS_SIGMAS
from pose2seg_jax.prediction.inputs import InputError
from pose2seg_jax.prediction.pose_estimators import MoveNetPoses


@pytest.fixture(scope="module")
def couple():
    """A photo and the annotated poses of its two persons."""
    dataset = coco.read(ROOT / "examples/poses.json")
    (image,) = [image for image in dataset.images if image.file_name == "tennis_couple.jpg"]
    photo = PIL.Image.open(ROOT / "examples" / image.file_name).convert("RGB")
    return np.asarray(photo), image.posed


@pytest.fixture(scope="module")
def estimate():
    return MoveNetPoses()


def _oks(person, pose):
    """COCO's, of the annotated parts."""
    seen = person.pose[:, 2] > 0
    squared = np.sum((person.pose[:, :2] - pose[:, :2]) ** 2, axis=1)
    return np.mean(np.exp(-squared / (2 * (2 * OKS_SIGMAS) ** 2 * person.area))[seen])


def _best(persons, poses):
    return [max(_oks(person, pose) for pose in poses) for person in persons]


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"accurate": True}], ids=str)
def test_the_couple_is_found(couple, options):
    photo, persons = couple
    found = MoveNetPoses(**options)(photo)
    assert len(found.poses) == 2  # nobody twice
    assert min(_best(persons, found.poses)) > 0.6
    assert found.poses.dtype == np.float32
    assert np.all(np.diff(found.scores) <= 0)
    assert found.part_scores.shape == found.poses.shape[:2]
    np.testing.assert_array_equal(found.poses[..., 2] > 0, found.part_scores >= 0.1)
    assert set(np.unique(found.poses[..., 2])) <= {0, 2}


def test_coordinates_are_those_of_the_photo(couple, estimate):
    photo, persons = couple
    moved = np.zeros((photo.shape[0] + 40, photo.shape[1] + 70, 3), np.uint8)
    moved[40:, 70:] = photo
    found = estimate(moved).poses
    found[..., :2] -= [70, 40]
    assert min(_best(persons, found)) > 0.6
    mirrored = estimate(photo[:, ::-1]).poses[:, np.asarray(FLIPPED_PARTS)]
    mirrored[..., 0] = photo.shape[1] - mirrored[..., 0]
    assert min(_best(persons, mirrored)) > 0.6


def test_with_flip_a_mirrored_photo_has_the_mirrored_poses(couple):
    photo, _ = couple
    estimate = MoveNetPoses(flip=True)
    # The shorter side has an even number of pixels beside it on both canvases, so these mirror each other exactly.
    plain, mirrored = (estimate(np.ascontiguousarray(p)) for p in (photo, photo[:, ::-1]))
    assert len(plain.poses) == len(mirrored.poses)
    back = mirrored.poses[:, np.asarray(FLIPPED_PARTS)]
    back[..., 0] = photo.shape[1] - back[..., 0]
    gaps = np.abs(back[..., :2] - plain.poses[..., :2])
    assert np.median(gaps) < 0.02  # single weak parts may jump
    # Without flip, MoveNet's poses lie to one side by its bias.
    once = MoveNetPoses()(photo).poses[..., 0]
    assert abs(np.median(once - plain.poses[..., 0])) < 0.5


@pytest.mark.parametrize("threshold", [-1.0, 2.0, float("nan")])
def test_thresholds_are_between_0_and_1(threshold):
    with pytest.raises(InputError, match="must be a number between 0 and 1"):
        MoveNetPoses(person_score_threshold=threshold)


@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((9, 9, 4), np.uint8), np.zeros((0, 9, 3), np.uint8)],
)  # fmt: skip
def test_what_is_no_image_is_refused(estimate, image):
    with pytest.raises(InputError, match=r"expected uint8 of shape \(H, W, 3\)"):
        estimate(image)


def test_thresholds_leave_parts_and_persons_out(couple):
    photo, _ = couple
    many = MoveNetPoses(person_score_threshold=0.0, part_score_threshold=0.0)(photo)
    few = MoveNetPoses(person_score_threshold=0.5, part_score_threshold=0.5)(photo)
    assert 0 < len(few.poses) < len(many.poses) <= 30
    np.testing.assert_array_equal(few.scores, many.scores[: len(few.scores)])
    assert np.all(many.poses[..., 2] == 2)
    assert 0 < np.mean(few.poses[..., 2] == 2) < 1
    # A part that is missing is where it would be.
    np.testing.assert_array_equal(few.poses[..., :2], many.poses[: len(few.poses), :, :2])


def test_nobody_is_found_where_nobody_is(estimate):
    found = estimate(np.zeros((33, 70, 3), np.uint8))
    assert found.poses.shape == (0, 17, 3)
    assert found.scores.shape == (0,)


def test_it_is_the_same_where_it_is_unpickled(couple, estimate):
    photo, _ = couple
    found = pickle.loads(pickle.dumps(estimate))(photo)
    np.testing.assert_array_equal(found.poses, estimate(photo).poses)
