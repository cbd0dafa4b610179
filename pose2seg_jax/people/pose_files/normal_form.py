"""The one form that every pose file is brought into."""

import collections
import contextlib
import dataclasses
import gc
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pose2seg_jax.people import skeletons
from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.people.pose_files import (
    formats,
    frames,
    matching,
    numbers,
    plausibility,
    visibility,
)
from pose2seg_jax.people.pose_files.content import (
    FileContent,
    FileImage,
    FilePerson,
    ImageKey,
    PoseFileError,
)
from pose2seg_jax.people.pose_files.duplicates import duplicates

_LARGEST_SCORE = 1e6  # of a person
_MARKS = (0, -1)  # x = y of a missing part
_MOST_PERSONS = 1000  # in a photo
_FARTHEST = 1e6  # pixels; more is as much outside of every photo


@dataclasses.dataclass(frozen=True, eq=False)
class ImagePoses:
    """The persons of one image.

    Attributes:
        image_id: as the pose file names the image.
        poses: (P, 17, 3) x, y, and visibility: 0 missing, 1 hidden, 2 visible; in continuous image coordinates.
        scores: (P,) of the persons; None where the file has none.
        size: (height, width) where the file says it.
        part_scores: (P, 17); NaN where the file has none.
        ids: (P,) of the persons in the file.
        fractions: whether x and y are fractions of the image's width and height.
        pixel_indices: whether they are those of pixel indices; `poses` has the half pixel already, fractions get it.
        left_out: reason -> how many parts or persons `on_photo` took out.
    """

    image_id: ImageKey
    poses: np.ndarray
    scores: np.ndarray | None = None
    size: tuple[int, int] | None = None
    part_scores: np.ndarray | None = None
    ids: tuple[Any, ...] = ()
    fractions: bool = False
    pixel_indices: bool = False
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def fits(self, height: int, width: int) -> bool:
        """Returns whether no part lies outside of a photo."""
        return not np.any(plausibility.outside(self._pixels(height, width), height, width))

    def on_photo(
        self, height: int, width: int, photo: Any, *, drop_duplicates: bool = True
    ) -> "ImagePoses":
        """Returns the poses in pixels of their photo, without what lies outside of it.

        Args:
            height: of the photo.
            width: of the photo.
            photo: names it in messages.
            drop_duplicates: whether a person who is there twice is left out once.

        Raises:
            PoseFileError: the poses cannot be those of this photo.
        """
        if len(self.poses) > _MOST_PERSONS:
            raise PoseFileError(
                f"{photo}: has {len(self.poses)} persons, more than {_MOST_PERSONS}; are they those of many frames?"
            )
        if not self.fractions and self.size not in (None, (height, width)):
            raise PoseFileError(
                f"{photo}: is {width}x{height}, but the file of its poses says {self.size[1]}x{self.size[0]}."
            )
        poses = self._pixels(height, width)
        outside = plausibility.check_photo(poses, height, width, photo)
        poses[outside] = 0
        kept = np.any(poses[..., 2] > 0, axis=1)
        scores = np.ones(len(poses)) if self.scores is None else self.scores
        twice = np.zeros(len(poses), bool)
        if drop_duplicates:
            twice[kept] = duplicates(poses[kept], scores[kept])
        left_out = {
            "parts outside of the photo": int(np.sum(outside)),
            "persons without a part in the photo": int(np.sum(~kept)),
            "persons who are there twice (config.prediction.drop_duplicates)": int(np.sum(twice)),
        }
        found = dataclasses.replace(self, poses=poses, fractions=False, left_out=left_out)
        return found.subset(np.flatnonzero(kept & ~twice))

    def subset(self, rows: Sequence[int] | np.ndarray) -> "ImagePoses":
        """Returns some of the persons, given by their numbers."""
        return dataclasses.replace(
            self,
            poses=self.poses[rows],
            scores=None if self.scores is None else self.scores[rows],
            part_scores=None if self.part_scores is None else self.part_scores[rows],
            ids=tuple(self.ids[row] for row in rows) if self.ids else (),
        )

    def _pixels(self, height: int, width: int) -> np.ndarray:
        poses = self.poses.copy()
        if self.fractions:
            poses[..., :2] = poses[..., :2] * np.asarray([width, height], np.float32)
            poses[..., :2] += 0.5 * self.pixel_indices
        return poses


class PoseFile(NamedTuple):
    """A pose file in the normal form.

    Attributes:
        path: of the file or folder.
        images: all of its images by key, also those without persons.
        poses: the persons of each image.
    """

    path: str | os.PathLike
    images: dict[ImageKey, FileImage]
    poses: dict[ImageKey, ImagePoses]

    def match(self, photos: Sequence[matching.Photo]) -> dict[int, ImagePoses]:
        """Returns index of the photo -> its persons; see `matching.match`."""
        found = matching.match(self.images, photos, self.path)
        return {
            number: self.poses[key]
            if self.images[key].is_named
            else dataclasses.replace(
                self.poses[key], image_id=pathlib.PurePath(photos[number].path).stem
            )
            for number, key in found.items()
        }

    def match_frames(self, count: int) -> dict[int, ImagePoses]:
        """Returns index of the frame -> its persons, for a video of so many frames; see `frames.match_frames`."""
        found = frames.match_frames(self.images, count, self.path)
        return {number: self.poses[key] for number, key in found.items()}


def read(path: str | os.PathLike, threshold: float, skeleton: str | None = None) -> PoseFile:
    """Reads a pose file of any format.

    Args:
        path: a file, or a folder with one file a photo.
        threshold: of part scores: from it on a part is visible.
        skeleton: a name of `skeletons.SKELETONS`; None to take the file's own names, or the number of parts.

    Raises:
        UserError: it cannot be read, or holds nobody whose pose can be used.
    """
    given = None if skeleton is None else skeletons.parts_of(skeleton)
    with _without_collection():
        content = formats.read(path, len(given) if given else None)
        parts, names = _coco_parts(content, path, given)
    known = np.all(np.isfinite(parts[..., :2]), axis=-1) & ~np.isnan(parts[..., 2])
    for mark in _MARKS:
        known &= np.any(parts[..., :2] != mark, axis=-1)
    try:
        decided = visibility.decide(parts[..., 2], known, threshold, content.visibilities)
    except PoseFileError as error:
        raise PoseFileError(f"{path}: {error}.") from None
    if decided.remark:
        logging.warning("%s: %s.", path, decided.remark)
    seen = decided.states > 0
    kept = np.any(seen, axis=1)
    _check_anybody(path, content, decided.scores[known], kept, threshold)
    warn_left_out(path, {**content.left_out, "persons without a part": int(np.sum(~kept))})

    guessed = not content.fractions and plausibility.are_fractions(parts[kept], seen[kept], path)
    fractions = content.fractions or guessed
    poses = np.where(seen[..., None], np.clip(parts, -_FARTHEST, _FARTHEST), 0).astype(np.float32)
    poses[..., 2] = decided.states
    if content.pixel_indices and not fractions:
        poses[..., :2] += np.where(seen[..., None], np.float32(0.5), 0)
    if content.part_names is None and skeleton is None and len(names) == NUM_PARTS:
        plausibility.warn_of_parts(poses, path)
    plausibility.warn_of_lying(poses[kept], path, fractions=guessed)
    scores = _person_scores(content.persons, path)
    every = ImagePoses(
        "", poses, scores, None, decided.scores, tuple(person.id for person in content.persons),
        fractions, content.pixel_indices,
    )  # fmt: skip
    return PoseFile(path, content.images, _by_image(content, every, kept))


def _by_image(
    content: FileContent, every: ImagePoses, kept: np.ndarray
) -> dict[ImageKey, ImagePoses]:
    """The persons of each image, of all of a file's; also of images without persons."""
    rows: dict[ImageKey, list[int]] = collections.defaultdict(list)
    for index in np.flatnonzero(kept).tolist():
        rows[content.persons[index].image].append(index)
    found = {}
    for key, image in content.images.items():
        # As `subset`, without a copy of what nearly always stands together.
        of_image = rows.get(key, [])
        together = of_image and of_image[-1] - of_image[0] == len(of_image) - 1
        where: Any = slice(of_image[0], of_image[-1] + 1) if together else of_image
        found[key] = ImagePoses(
            image.id,
            every.poses[where],
            None if every.scores is None else every.scores[where],
            image.size,
            None if every.part_scores is None else every.part_scores[where],
            tuple(every.ids[row] for row in of_image),
            every.fractions,
            every.pixel_indices,
        )
    return found


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Spares Python the search for cycles among the millions of numbers of a large file."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def warn_left_out(path: Any, left_out: Mapping[str, int]) -> None:
    """Warns of what is left out of a file."""
    for reason, count in left_out.items():
        if count:
            logging.warning("%s: left out: %s: %d.", path, reason, count)


def _coco_parts(
    content: FileContent, path: Any, names: tuple[str, ...] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(P, 17, 3) float64 of COCO's parts, and the names of the file's; NaN where it has no number or no such part."""
    try:
        names = names or content.part_names
        parts = numbers.file_parts(content.persons, len(names) if names else None, path)
        names = names or skeletons.parts_by_length(parts.shape[1], path)
        columns = np.asarray(skeletons.columns_by_names(names))
    except skeletons.SkeletonError as error:
        raise PoseFileError(
            f"{path}: {error} --skeleton=NAME says which parts a file holds."
        ) from None
    found = np.full((len(parts), NUM_PARTS, 3), np.nan)
    there = columns >= 0
    found[:, there] = parts[:, columns[there]]
    lost = np.any(np.isnan(found[:, there]), axis=-1) & np.any(parts == parts, axis=(1, 2))[:, None]
    if np.any(lost):
        logging.warning(
            "%s: parts without numbers (null, NaN, or a list that ends too early) are missing: %d.",
            path, int(np.sum(lost)),
        )  # fmt: skip
    return found, names


def _person_scores(persons: Sequence[FilePerson], path: Any) -> np.ndarray | None:
    """(P,) 1 where a person has none; None where nobody has one."""
    if all(person.score is None for person in persons):
        return None
    without = sum(person.score is None for person in persons)
    if without:
        logging.warning("%s: persons without a score, read as 1: %d.", path, without)
    scores = np.ones(len(persons))
    for index, person in enumerate(persons):
        if person.score is not None:
            scores[index] = _score(person, path)
    return scores


def _score(person: FilePerson, path: Any) -> float:
    """The score of a person; "0.9" and [0.9] are what converters make of 0.9."""
    value = person.score
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    try:
        number = np.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not 0 <= number < _LARGEST_SCORE:
        raise PoseFileError(
            f"{path}: {person.where}: 'score' must be a number, 0 or more, not {person.score!r:.40}."
        )
    return number


def _check_anybody(
    path: Any, content: FileContent, scores: np.ndarray, kept: np.ndarray, threshold: float
) -> None:
    """Refuses a file that holds persons of whom nobody can be used, and says why."""
    left_out = {reason: count for reason, count in content.left_out.items() if count}
    if np.any(kept) or not (content.persons or left_out):
        return
    scores = scores[np.isfinite(scores)]
    if scores.size:
        raise PoseFileError(
            f"{path}: all {scores.size} part scores are below {threshold:g}, the highest is {scores.max():.3g}, so no part is"
            " left; --config.prediction.part_score_threshold sets another threshold."
        )
    if content.persons:
        left_out["persons without a part (keypoints)"] = len(content.persons)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
    raise PoseFileError(f"{path}: holds no pose that can be used; left out: {reasons}.")
