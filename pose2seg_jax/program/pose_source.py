"""Where the poses of photos and of frames come from: an estimator of ours, another program's, or a pose file."""

import dataclasses
import hashlib
import itertools
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import PIL.Image

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.people import pose_files
from pose2seg_jax.people.images import open_image
from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.people.pose_files import ImagePoses, PoseFileError
from pose2seg_jax.prediction import pose_estimators
from pose2seg_jax.prediction.pose_estimators import (
    EmbeddingPoses,
    EstimatedPoses,
    PoseEstimator,
    embedding_poses,
    movenet_poses,
)
from pose2seg_jax.program.photos import Photo
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights import movenet_files

OWN, RTMO = "own", "auto"  # what --poses calls the estimators
HEADS = "own pose heads"  # what OWN is where the network that makes the masks has pose heads, see `resolved`
_THRESHOLDS = (0.3, 0.0)  # of parts and of persons, for pose files and RTMO

_WEAK = "persons with a score below prediction.person_score_threshold"


class Options(NamedTuple):
    """What is taken of the poses; see `config.prediction`.

    Attributes:
        part_score_threshold: parts with a lower score are missing; None for what suits the source.
        person_score_threshold: persons with a lower score are left out; None for what suits the source.
        drop_duplicates: whether a person whom a pose file holds twice is left out once.
        accurate: whether our own pose network looks at three sizes of a photo.
        flip: whether it looks at the mirrored photo too.
        skeleton: the parts of the pose file; None to find out.
    """

    part_score_threshold: float | None = None
    person_score_threshold: float | None = None
    drop_duplicates: bool = True
    accurate: bool = False
    flip: bool = False
    skeleton: str | None = None

    @classmethod
    def from_config(cls, prediction: Any, skeleton: str | None) -> "Options":
        """Reads `config.prediction`.

        Raises:
            UserError: a threshold is not between 0 and 1.
        """
        for field in ("part_score_threshold", "person_score_threshold"):
            if prediction[field] is not None and not 0 <= prediction[field] <= 1:
                raise UserError(
                    f"config field prediction.{field} is {prediction[field]}; it must be between 0 and 1."
                )
        return cls(
            prediction.part_score_threshold,
            prediction.person_score_threshold,
            prediction.drop_duplicates,
            prediction.accurate_poses,
            prediction.flip,
            skeleton,
        )

    def thresholds_of(self, poses: str) -> tuple[float, float]:
        """Returns the thresholds of parts and of persons for a source, see `resolved`."""
        usual = _THRESHOLDS
        if poses == HEADS or is_weights(poses):
            usual = embedding_poses.thresholds()
        elif poses == OWN:
            usual = movenet_poses.thresholds(accurate=self.accurate)
        given = (self.part_score_threshold, self.person_score_threshold)
        part, person = (u if g is None else g for g, u in zip(given, usual, strict=True))
        return part, person


# The number of a frame and its picture -> its persons; None where the predictor finds them itself.
FramePoses = Callable[[int, np.ndarray], ImagePoses | None]


@runtime_checkable
class PoseSource(Protocol):
    """Gives the poses of photos and of frames. Several threads may ask at once."""

    def state(self, photo: Photo) -> str:
        """Returns what the poses of a photo or video are, so that others can be told from them."""

    def of_photo(self, photo: Photo) -> tuple[np.ndarray, ImagePoses | None]:
        """Returns the pixels of a photo (H, W, 3) and its persons; None where the predictor finds them itself.

        Raises:
            ImageError: it cannot be read.
            PoseFileError: its poses cannot be those of this photo.
        """

    def of_video(self, video: Photo, count: int | None) -> FramePoses:
        """Returns what gives the persons of each frame.

        Args:
            video: which one.
            count: of its frames; None for a camera.

        Raises:
            PoseFileError: its poses cannot be those of this video.
        """


def is_estimator(poses: str) -> bool:
    """Returns whether `--poses` names a pose estimator, not a pose file."""
    return poses in (OWN, HEADS, RTMO) or is_weights(poses)


def is_weights(poses: str) -> bool:
    """Returns whether `--poses` names a weights file, whose pose heads find the poses."""
    return pathlib.PurePath(poses).suffix.lower() == ".safetensors"


def resolved(poses: str, spec: NetworkSpec) -> str:
    """Returns the source that `--poses` names for a network: "own" is the network's pose heads, where it has some."""
    return HEADS if poses == OWN and spec.finds_poses else poses


def heads_options(options: Options) -> dict[str, Any]:
    """Returns the options of `EmbeddingPoses` for the pose heads of the network that makes the masks."""
    part, person = options.thresholds_of(HEADS)
    return {
        "accurate": options.accurate,
        "part_score_threshold": part,
        "person_score_threshold": person,
    }


def open_estimator(poses: str, options: Options, device: jax.Device | None = None) -> PoseEstimator:
    """Returns the pose estimator that `--poses` names. Several threads may share it.

    Args:
        poses: "own" for our own pose network, "auto" for RTMO, or a weights file with pose heads.
        options: see `Options`.
        device: for our own.

    Raises:
        UserError: it is not installed.
    """
    part, person = options.thresholds_of(poses)
    if is_weights(poses):
        return EmbeddingPoses.load(
            poses,
            flip=options.flip,
            accurate=options.accurate,
            part_score_threshold=part,
            person_score_threshold=person,
            device=device,
        )
    if poses == OWN:
        return pose_estimators.MoveNetPoses(
            accurate=options.accurate,
            flip=options.flip,
            part_score_threshold=part,
            person_score_threshold=person,
            device=device,
        )
    estimate = pose_estimators.rtmo(score_threshold=part)

    lock = threading.Lock()

    def sure(image: np.ndarray) -> EstimatedPoses:
        with lock:
            found = estimate(image)
        kept = found.scores >= person
        return EstimatedPoses(found.poses[kept], found.scores[kept])

    return sure


def open_source(
    poses: str,
    photos: Sequence[Photo],
    options: Options,
    devices: Sequence[jax.Device],
) -> PoseSource:
    """Opens a pose file, or an estimator.

    Args:
        poses: the source, see `resolved`.
        photos: photos and videos.
        options: see `Options`.
        devices: on which our own pose networks run.

    Raises:
        UserError: the file cannot be used, or knows none of the photos.
    """
    if poses == HEADS:
        return _OwnHeads()
    if poses == OWN or is_weights(poses):
        return _Estimators([open_estimator(poses, options, device) for device in devices])
    if poses == RTMO:
        return _Estimators([open_estimator(RTMO, options)])
    return _PoseFile(poses, photos, options)


def identity(poses: str, options: Options) -> dict[str, Any]:
    """Returns what decides which poses a source gives, beside the photos and the network of the masks; ready for JSON."""
    part, person = options.thresholds_of(poses)
    found: dict[str, Any] = {
        "poses": poses if is_estimator(poses) else os.fspath(paths.absolute(poses)),
        "prediction.part_score_threshold": part,
        "prediction.person_score_threshold": person,
    }
    if is_weights(poses):
        found["pose network"] = weights.load(poses).fingerprint()
    elif poses == OWN:
        found["pose network"] = hashlib.sha256(movenet_files.PACKAGED.read_bytes()).hexdigest()
    return found


class _PoseFile:
    def __init__(self, path: str, photos: Sequence[Photo], options: Options):
        self._path, self._drop_duplicates = path, options.drop_duplicates
        part_threshold, self._threshold = options.thresholds_of(path)
        stills = [photo.path for photo in photos if not photo.is_video]
        if len(photos) - len(stills) > 1:
            raise UserError(
                f"{path}: holds the poses of one video, but there are {len(photos) - len(stills)}; predict them one by one."
            )
        self._file = pose_files.read(path, part_threshold, options.skeleton)
        self._known = pose_files.match_photos(self._file, stills)

    def state(self, photo: Photo) -> str:
        if photo.is_video:
            return _hash(self._file.poses.values())
        found = self._known.get(photo.path)
        return _hash([] if found is None else [found])

    def of_photo(self, photo: Photo) -> tuple[np.ndarray, ImagePoses]:
        opened, found = _open(photo.path, self._known.get(photo.path))
        if found is None:
            logging.warning("%s: %s holds no pose of this photo; no mask is predicted.", photo.path, self._path)  # fmt: skip
            found = _nobody(photo.result_id)
        else:
            found = self._on_photo(found, opened.height, opened.width, photo.path)
        return np.asarray(opened.convert("RGB")), found

    def of_video(self, video: Photo, count: int | None) -> FramePoses:
        if count is None:
            raise PoseFileError(f"{video.path}: a camera has no pose file; leave --poses out.")
        known = self._file.match_frames(count)

        def of_frame(index: int, picture: np.ndarray) -> ImagePoses:
            found, name = known.get(index), video.frame_id(index)
            if found is None:
                return _nobody(name)
            return self._on_photo(found, picture.shape[0], picture.shape[1], name)

        return of_frame

    def _on_photo(self, found: ImagePoses, height: int, width: int, name: object) -> ImagePoses:
        found = found.on_photo(height, width, name, drop_duplicates=self._drop_duplicates)
        return _without_weak(found, self._threshold, self._path)


class _Estimators:
    """Poses of photos and frames by estimators, which take turns."""

    def __init__(self, estimators: Sequence[PoseEstimator]):
        self._in_turn = itertools.cycle(estimators)

    def state(self, photo: Photo) -> str:
        return "estimated"

    def of_photo(self, photo: Photo) -> tuple[np.ndarray, ImagePoses]:
        picture = np.asarray(open_image(photo.path).convert("RGB"))
        return picture, self._persons(photo.result_id, picture)

    def of_video(self, video: Photo, count: int | None) -> FramePoses:
        return lambda index, picture: self._persons(video.frame_id(index), picture)

    def _persons(self, name: int | str, picture: np.ndarray) -> ImagePoses:
        found = next(self._in_turn)(picture)
        return ImagePoses(name, found.poses, found.scores)


class _OwnHeads:
    """No poses: the predictor's network has pose heads, and finds them in the features that its masks are made of."""

    def state(self, photo: Photo) -> str:
        return "estimated"

    def of_photo(self, photo: Photo) -> tuple[np.ndarray, None]:
        return np.asarray(open_image(photo.path).convert("RGB")), None

    def of_video(self, video: Photo, count: int | None) -> FramePoses:
        return lambda index, picture: None


def _open(
    path: pathlib.Path, found: ImagePoses | None
) -> tuple[PIL.Image.Image, ImagePoses | None]:
    """Opens a photo as it is shown, or as it is stored where its poses belong to that."""
    shown = open_image(path)
    if found is None or found.fractions or found.size != (shown.width, shown.height):
        return shown, found
    if not found.fits(*found.size) and found.fits(shown.height, shown.width):
        # The file took the size from the stored pixels, and its poses from the photo as it is shown.
        return shown, dataclasses.replace(found, size=(shown.height, shown.width))
    return open_image(path, found.size), found


def _hash(images: Iterable[ImagePoses]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.image_id} {image.size} {image.fractions}".encode())
        digest.update(image.poses.tobytes())
        digest.update(b"" if image.scores is None else image.scores.tobytes())
    return digest.hexdigest()


def _nobody(name: int | str) -> ImagePoses:
    return ImagePoses(name, np.zeros((0, NUM_PARTS, 3), np.float32))


def _without_weak(found: ImagePoses, threshold: float, source: str) -> ImagePoses:
    """The persons whose score reaches the threshold; the others are counted.

    Raises:
        UserError: there is a threshold, and persons have no scores.
    """
    if found.scores is None:
        if threshold and len(found.poses):
            raise UserError(
                f"{source}: holds no scores of persons, so prediction.person_score_threshold would have no"
                " effect; leave it out."
            )
        return found
    kept = found.scores >= threshold
    left_out = {**found.left_out, f"{_WEAK}, {threshold:g}": int(np.sum(~kept))}
    return dataclasses.replace(found.subset(np.flatnonzero(kept)), left_out=left_out)
