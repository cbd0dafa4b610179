"""People of a photo are corrected one by one, and only their masks are predicted again."""

import numpy as np
import pytest
from conftest import standing_pose, tiny_weights

from pose2seg_jax.prediction.pose_estimators import EstimatedPoses
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.prediction.scene import WORKING_SIDE, Scene, Settings

_PART_SCORES = np.linspace(0.2, 1, 17)


@pytest.fixture(scope="module")
def predictor():
    return Pose2SegPredictor.from_weights(tiny_weights())


def _image(height, width):
    return np.random.RandomState(0).randint(0, 255, (height, width, 3), np.uint8)


def _scene(predictor, image=None):
    """Two people; the second is doubtful."""
    scene = Scene(predictor, _image(120, 160) if image is None else image)
    poses = np.stack([standing_pose(5, 5, 100), standing_pose(60, 10, 90)])
    scene.set_people(EstimatedPoses(poses, np.array([0.9, 0.3]), np.stack([_PART_SCORES] * 2)))
    return scene


def test_its_masks_are_those_of_the_predictor(predictor):
    scene = _scene(predictor)
    found = scene.result(Settings())
    poses = np.stack([person.pose(0.0) for person in scene.people])
    expected = predictor(scene.picture, poses, np.array([0.9, 0.3]))
    assert found.rles == expected.rles
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.masks.any()


def test_only_who_was_moved_is_predicted_again(predictor, monkeypatch):
    scene = _scene(predictor)
    asked = []
    whole = Pose2SegPredictor.rois

    def rois(self, encoded, poses):
        asked.append(len(poses))
        return whole(self, encoded, poses)

    monkeypatch.setattr(Pose2SegPredictor, "rois", rois)
    before = scene.result(Settings())
    first, second = scene.people
    scene.place(first, 9, 30.0, 100.0)
    after = scene.result(Settings())
    scene.rois(second, Settings())
    assert asked == [2, 1]
    np.testing.assert_array_equal(first.pose(0.0)[9], [30, 100, 2])
    assert after.rles != before.rles
    poses = np.stack([person.pose(0.0) for person in scene.people])
    np.testing.assert_array_equal(
        after.masks, predictor(scene.picture, poses, np.array([0.9, 0.3])).masks
    )


def test_a_part_is_placed_inside_of_the_picture(predictor):
    scene = _scene(predictor)
    scene.place(scene.people[0], 0, -5.0, 1e4)
    np.testing.assert_array_equal(scene.people[0].pose(0.0)[0], [0, 120, 2])


def test_parts_are_hidden_and_shown(predictor):
    scene, settings = _scene(predictor), Settings(part_threshold=0.5)
    person = scene.people[0]
    seen = person.pose(0.5)[:, 2] > 0
    np.testing.assert_array_equal(seen, _PART_SCORES >= 0.5)
    assert scene.switch(person, 16, settings)
    assert scene.switch(person, 0, settings)  # a doubtful one
    np.testing.assert_array_equal(person.pose(0.5)[[0, 16], 2], [2, 0])
    new = scene.add_person()
    assert not scene.switch(new, 0, settings)
    scene.place(new, 0, 3.0, 4.0)
    np.testing.assert_array_equal(new.pose(0.5)[:2, 2], [2, 0])


def test_doubtful_people_are_left_out_until_they_are_edited(predictor):
    scene, settings = _scene(predictor), Settings(person_threshold=0.5)
    first, second = scene.people
    assert scene.shown(settings) == [first]
    assert len(scene.result(settings)) == 1
    scene.place(second, 0, 80.0, 20.0)
    assert scene.shown(settings) == [first, second]
    assert scene.add_person().number == 3
    scene.remove(second)
    assert scene.find(2) is None
    assert scene.find(3) is scene.people[-1]
    assert scene.add_person().number == 4  # no number is given twice
    assert len(Scene(predictor, _image(20, 30)).result(settings)) == 0


def test_the_nearest_part_within_reach(predictor):
    scene = _scene(predictor)
    x, y = scene.people[1].points[15]
    person, part = scene.nearest_part(float(x) + 2, float(y), 5.0, Settings())
    assert (person.number, part) == (2, 15)
    assert scene.nearest_part(float(x) + 2, float(y), 1.0, Settings()) is None
    doubtful = Settings(person_threshold=0.5)
    assert scene.nearest_part(float(x) + 2, float(y), 5.0, doubtful) is None


def test_masks_grow_as_their_threshold_falls(predictor):
    scene = _scene(predictor)
    low, usual, high = (
        scene.result(Settings(mask_threshold=t, exclusive=False)).masks for t in (0.3, 0.5, 0.7)
    )
    assert np.all(low >= usual)
    assert np.all(usual >= high)
    assert low.sum() > high.sum()


def test_a_large_photo_is_edited_smaller_and_predicted_at_its_size(predictor):
    image = _image(2 * WORKING_SIDE, 400)
    scene = Scene(predictor, image)
    assert scene.picture.shape == (WORKING_SIDE, 200, 3)
    person = scene.add_person()
    for part, (x, y, _) in enumerate(standing_pose(10, 100, 150)):
        scene.place(person, part, float(x), float(y))
    found = scene.full_result(Settings())
    expected = predictor(image, person.pose(0.0)[None] * [2, 2, 1])
    assert found.size == image.shape[:2]
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_array_equal(found.poses, expected.poses)


def test_another_network_keeps_the_people(predictor):
    scene = _scene(predictor)
    other = Pose2SegPredictor.from_weights(tiny_weights(seed=1))
    scene.use(other)
    poses = np.stack([person.pose(0.0) for person in scene.people])
    expected = other(scene.picture, poses, np.array([0.9, 0.3]))
    np.testing.assert_array_equal(scene.result(Settings()).masks, expected.masks)
