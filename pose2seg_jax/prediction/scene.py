"""`Scene`: a photo whose people a user corrects, and whose masks follow at once."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import PIL.Image
from jaxtyping import Float, Int, UInt8

from pose2seg_jax.people.masks import THRESHOLD
from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.prediction.network import RoiPrediction
from pose2seg_jax.prediction.pose_estimators import EstimatedPoses
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.prediction.results import Result

# Longer side in pixels of the picture that is shown and edited; larger photos are scaled down to it.
WORKING_SIDE = 1280
_VISIBLE = 2
_MOST_ROIS = 500  # that are remembered


class Settings(NamedTuple):
    """What is shown of a scene.

    Attributes:
        person_threshold: people with a lower score are left out, unless they were edited.
        part_threshold: parts with a lower score are missing, unless they were edited.
        mask_threshold: a mask is where its probability exceeds it.
        exclusive: whether a pixel belongs to one person at most.
    """

    person_threshold: float = 0.0
    part_threshold: float = 0.0
    mask_threshold: float = THRESHOLD
    exclusive: bool = True


@dataclasses.dataclass(eq=False)
class Person:
    """A person of a scene.

    Attributes:
        number: of the person in the scene, from 1; it never changes.
        points: (17, 2) where the parts are, in the picture.
        visibility: (17,) of the parts where they are shown, 1 or 2.
        part_scores: (17,) how sure the parts are, in [0, 1].
        by_hand: (17,) 1 for parts that a user placed, -1 for those that a user hid, 0 for the others.
        score: how sure it is that the person is there.
    """

    number: int
    points: Float[np.ndarray, "17 2"]
    visibility: Float[np.ndarray, " 17"]
    part_scores: Float[np.ndarray, " 17"]
    by_hand: Int[np.ndarray, " 17"]
    score: float = 1.0

    def pose(self, part_threshold: float) -> Float[np.ndarray, "17 3"]:
        """Returns x, y and visibility of all parts; those that are not shown have visibility 0."""
        known = (self.part_scores >= part_threshold) & (self.part_scores > 0)
        shown = np.where(self.by_hand == 0, known, self.by_hand > 0)
        third = np.where(shown, self.visibility, 0)
        return np.concatenate([self.points, third[:, None]], axis=1).astype(np.float32)

    def is_shown(self, settings: Settings) -> bool:
        """Returns whether the person is one of the scene's people with these settings."""
        return bool(np.any(self.by_hand)) or self.score >= settings.person_threshold


class Scene:
    """A photo that is encoded once, and its people.

        scene = Scene(predictor, image)
        scene.set_people(MoveNetPoses()(scene.picture))
        scene.place(scene.people[0], part, x, y)
        result = scene.result(Settings())

    Only people whose poses have changed are predicted again. Coordinates are those of `picture`.
    """

    def __init__(self, predictor: Pose2SegPredictor, image: UInt8[np.ndarray, "H W 3"]):
        """Runs the backbone.

        Args:
            predictor: the network.
            image: the photo, of any size.
        """
        self.image, self.picture = image, _within(image, WORKING_SIDE)
        self.people: list[Person] = []
        self._count = 0
        self.use(predictor)

    def use(self, predictor: Pose2SegPredictor) -> None:
        """Changes the network, as to one that looks at the mirrored photo too."""
        self._predictor = predictor
        self._encoded = predictor.encode(self.picture)
        self._rois: dict[bytes, RoiPrediction] = {}

    @property
    def scale(self) -> Float[np.ndarray, " 2"]:
        """Pixels (x, y) of the photo in one of the picture."""
        return np.asarray(self.image.shape[1::-1]) / self.picture.shape[1::-1]

    @property
    def roi_stride(self) -> int:
        """Of the network, see `NetworkSpec`."""
        return self._predictor.network.spec.roi_stride

    def set_people(self, found: EstimatedPoses) -> None:
        """Replaces all people.

        Args:
            found: in the coordinates of the picture; without part scores, the visible parts are sure.
        """
        self.people = []
        scores = found.part_scores
        parts = (found.poses[..., 2] > 0) if scores is None else scores
        for pose, score, sure in zip(found.poses, found.scores, parts, strict=True):
            person = self.add_person()
            person.points, person.part_scores = pose[:, :2].astype(float), sure.astype(float)
            person.visibility = np.where(pose[:, 2] > 0, pose[:, 2], _VISIBLE).astype(float)
            person.score = float(score)

    def add_person(self) -> Person:
        """Returns a new person, who has no parts yet."""
        self._count += 1
        nothing = np.zeros(NUM_PARTS)
        visible = np.full(NUM_PARTS, float(_VISIBLE))
        hand = np.zeros(NUM_PARTS, int)
        person = Person(self._count, np.zeros((NUM_PARTS, 2)), visible, nothing, hand)
        self.people.append(person)
        return person

    def remove(self, person: Person) -> None:
        """Takes a person out."""
        self.people.remove(person)

    def find(self, number: int | None) -> Person | None:
        """Returns the person of a number; None where there is none."""
        return next((person for person in self.people if person.number == number), None)

    def place(self, person: Person, part: int, x: float, y: float) -> None:
        """Moves a part, and shows it."""
        height, width = self.picture.shape[:2]
        person.points[part] = np.clip([x, y], 0, [width, height])
        person.by_hand[part] = 1

    def switch(self, person: Person, part: int, settings: Settings) -> bool:
        """Hides a part that is shown, or shows one that is not; returns whether that could be done.

        A part that was never placed cannot be shown.
        """
        if person.pose(settings.part_threshold)[part, 2] > 0:
            person.by_hand[part] = -1
        elif np.any(person.points[part]):
            person.by_hand[part] = 1
        else:
            return False
        return True

    def shown(self, settings: Settings) -> list[Person]:
        """Returns the people whom the settings leave, in their order."""
        return [person for person in self.people if person.is_shown(settings)]

    def nearest_part(
        self, x: float, y: float, reach: float, settings: Settings
    ) -> tuple[Person, int] | None:
        """Returns the part that is shown nearest to a point and its person; None where none is within reach.

        Args:
            x: of the point.
            y: of the point.
            reach: the largest distance, in pixels of the picture.
            settings: who is shown.
        """
        best, found = reach, None
        for person in self.shown(settings):
            pose = person.pose(settings.part_threshold)
            away = np.hypot(pose[:, 0] - x, pose[:, 1] - y)
            away[pose[:, 2] == 0] = np.inf
            if away.min() <= best:
                best, found = float(away.min()), (person, int(away.argmin()))
        return found

    def rois(self, person: Person, settings: Settings) -> RoiPrediction:
        """Returns what the network says of one person, in the ROI: arrays with a first axis of 1."""
        return self._predicted([person.pose(settings.part_threshold)])[0]

    def result(self, settings: Settings) -> Result:
        """Returns the people who are shown, with their masks in the picture."""

        def predict(poses: np.ndarray) -> RoiPrediction:
            rois: RoiPrediction = jax.tree.map(
                lambda *parts: np.concatenate(parts), *self._predicted(list(poses))
            )
            return rois

        return self._result(settings, self.picture, predict)

    def full_result(self, settings: Settings) -> Result:
        """Returns `result` in the photo itself, predicted at its full size."""
        if self.image is self.picture:
            return self.result(settings)

        def predict(poses: np.ndarray) -> RoiPrediction:
            return self._predictor.rois(self._predictor.encode(self.image), poses)

        return self._result(settings, self.image, predict)

    def _result(
        self,
        settings: Settings,
        image: np.ndarray,
        predict: Callable[[np.ndarray], RoiPrediction],
    ) -> Result:
        """The people who are shown, in the picture or in the photo."""
        size = (image.shape[0], image.shape[1])
        people = self.shown(settings)
        if not people:
            return Result.empty(size)
        poses = np.stack([person.pose(settings.part_threshold) for person in people])
        if image is self.image:
            poses[..., :2] *= self.scale
        scores = np.asarray([person.score for person in people])
        return Result.from_rois(
            predict(poses), size, poses, scores,
            exclusive=settings.exclusive, threshold=settings.mask_threshold,
        )  # fmt: skip

    def _predicted(self, poses: list[np.ndarray]) -> list[RoiPrediction]:
        """What the network says of each pose; only new ones are asked for."""
        keys = [pose.tobytes() for pose in poses]
        new = {key: pose for key, pose in zip(keys, poses, strict=True) if key not in self._rois}
        if len(self._rois) + len(new) > _MOST_ROIS:
            self._rois, new = {}, dict(zip(keys, poses, strict=True))
        if new:
            rois = self._predictor.rois(self._encoded, np.stack(list(new.values())))
            for index, key in enumerate(new):
                self._rois[key] = jax.tree.map(lambda v, i=index: v[i : i + 1], rois)
        return [self._rois[key] for key in keys]


def _within(image: np.ndarray, side: int) -> np.ndarray:
    """The image, scaled down where its longer side is longer."""
    longer = max(image.shape[:2])
    if longer <= side:
        return image
    size = [max(round(n * side / longer), 1) for n in image.shape[1::-1]]
    shown = PIL.Image.fromarray(image).resize(size, PIL.Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(shown)
