"""`--mode=predict`: photos and poses in, masks and pictures out."""

import collections
import contextlib
import dataclasses
import io
import logging
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people import json_files
from pose2seg_jax.people.images import ImageError, open_image
from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.people.pose_files import (
    ImagePoses,
    PoseFileError,
    read_poses,
    warn_left_out,
)
from pose2seg_jax.pictures import overlays
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.program import photos

_RESULTS = "results.json"
_WEAK = "persons with a score below prediction.person_score_threshold"
PARTLY_DONE = 2  # the exit status where photos were skipped

# A photo's pixels and poses.
_Look = Callable[[pathlib.Path], tuple[np.ndarray, ImagePoses]]


def predict(
    predictor: Pose2SegPredictor,
    images: Sequence[str],
    poses: str,
    output: str,
    *,
    part_score_threshold: float,
    person_score_threshold: float,
    drop_duplicates: bool,
    skeleton: str | None,
) -> int:
    """Writes a COCO results file, and one overlay for each photo.

    Args:
        predictor: the network.
        images: photos, folders of photos and patterns.
        poses: a pose file, or "auto" to estimate poses.
        output: a folder.
        part_score_threshold: parts with a lower score are missing.
        person_score_threshold: persons with a lower score are left out.
        drop_duplicates: whether a person who is there twice is left out once.
        skeleton: the parts of the pose file; None to find out.

    Returns:
        How many photos were skipped.

    Raises:
        UserError: nothing could be predicted, files are missing, or would be overwritten.
    """
    found = photos.find(images)
    directory = _output(output, poses, images)
    ids = dict(zip((photo.path for photo in found), photos.result_ids(found), strict=True))
    if poses == "auto":
        look = _look_and_estimate(part_score_threshold, ids)
    else:
        known = read_poses(poses, list(ids), part_score_threshold, skeleton)
        look = _look_up(known, poses, ids, drop_duplicates)
    results, skipped = [], 0
    left_out: collections.Counter[str] = collections.Counter()
    try:
        with _stop_on_sigterm():
            for photo in found:
                try:
                    picture, of_photo = look(photo.path)
                except (ImageError, PoseFileError) as error:
                    logging.warning("%s; skipped.", str(error).removesuffix("."))
                    skipped += 1
                    continue
                of_photo = _without_weak(of_photo, person_score_threshold, poses)
                left_out.update(of_photo.left_out)
                result = predictor(picture, of_photo.poses, of_photo.scores)
                _save_picture(
                    directory / photo.name.with_name(f"{photo.name.name}{photos.OVERLAY}"),
                    overlays.overlay(picture, result.rles, of_photo.poses),
                )
                results += result.to_coco(of_photo.image_id)
    finally:  # what is done is kept, whatever happens to the next photo
        if skipped < len(found):
            coco_protocol.save_results(directory / _RESULTS, results)
    warn_left_out(poses, left_out)
    if skipped == len(found):
        raise UserError(f"{images[0]}: none of the {skipped} photos could be used; see above.")
    if skipped:
        logging.warning("skipped %d of %d photos.", skipped, len(found))
    print(f"{len(results)} masks and their overlays written to {directory}")
    return skipped


@contextlib.contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """Ends the program by an exception where the system asks it to end, so that what is done can be written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _output(output: str, poses: str, images: Sequence[str]) -> pathlib.Path:
    """The folder for results, checked: nothing of the user's is overwritten.

    Raises:
        UserError: it is the folder of the photos, or holds a results.json that is not ours.
    """
    directory = paths.local(output, "--output")
    if any(directory.resolve() == paths.local(i, "--image").resolve() for i in images):
        raise UserError(f"--output={output}: is the folder of the photos; name another one.")
    paths.make_directory(directory, "--output")
    target = directory / _RESULTS
    if not target.exists():
        return directory
    ours = False
    if poses == "auto" or target.resolve() != paths.local(poses, "--poses").resolve():
        with contextlib.suppress(json_files.JsonError):
            content = json_files.load(target)
            ours = isinstance(content, list) and all("mask_score" in entry for entry in content)
    if not ours:
        raise UserError(
            f"{target}: holds other data than masks of this program, and would be overwritten; name another --output."
        )
    return directory


def _look_up(
    known: Mapping[pathlib.Path, ImagePoses],
    poses: str,
    ids: Mapping[pathlib.Path, str],
    drop_duplicates: bool,
) -> _Look:
    """Takes the poses of a photo from a file; a photo that it does not know has nobody."""

    def look(path: pathlib.Path) -> tuple[np.ndarray, ImagePoses]:
        photo, found = _open(path, known.get(path))
        if found is None:
            logging.warning("%s: %s holds no pose of this photo; no mask is predicted.", path, poses)  # fmt: skip
            found = ImagePoses(ids[path], np.zeros((0, NUM_PARTS, 3), np.float32))
        else:
            found = found.on_photo(photo.height, photo.width, path, drop_duplicates=drop_duplicates)
        return np.asarray(photo.convert("RGB")), found

    return look


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


def _look_and_estimate(part_score_threshold: float, ids: Mapping[pathlib.Path, str]) -> _Look:
    """Estimates the poses of a photo."""
    from pose2seg_jax.prediction import pose_estimators

    estimate = pose_estimators.rtmo(score_threshold=part_score_threshold)

    def look(path: pathlib.Path) -> tuple[np.ndarray, ImagePoses]:
        picture = np.asarray(open_image(path).convert("RGB"))
        return picture, ImagePoses(ids[path], *estimate(picture))

    return look


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


def _save_picture(path: pathlib.Path, picture: np.ndarray) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "PNG")
    paths.make_directory(path.parent, "--output")
    paths.write_atomically(path, buffer.getvalue())
