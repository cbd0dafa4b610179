"""`--mode=predict`: photos and poses in, masks and pictures out."""

import collections
import dataclasses
import io
import logging
import pathlib
from collections.abc import Callable

import numpy as np
import PIL.Image

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people.images import IMAGE_SUFFIXES, ImageError, open_image
from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.people.pose_files import (
    ImagePoses,
    PoseFileError,
    read_poses,
    warn_left_out,
)  # fmt: skip
from pose2seg_jax.pictures import overlays
from pose2seg_jax.prediction.predictor import Pose2SegPredictor

_OVERLAY = "_overlay.png"
_WEAK = "persons with a score below prediction.person_score_threshold"

# A photo's pixels and poses; the poses are None where nothing is known of the photo.
_Look = Callable[[pathlib.Path], tuple[np.ndarray, ImagePoses | None]]


def predict(
    predictor: Pose2SegPredictor,
    image: str,
    poses: str,
    output: str,
    *,
    part_score_threshold: float,
    person_score_threshold: float,
    drop_duplicates: bool,
    skeleton: str | None,
) -> None:
    """Writes a COCO results file, and one overlay for each photo.

    Args:
        predictor: the network.
        image: a photo, or a folder of photos.
        poses: a pose file, or "auto" to estimate poses.
        output: a folder.
        part_score_threshold: parts with a lower score are missing.
        person_score_threshold: persons with a lower score are left out.
        drop_duplicates: whether a person who is there twice is left out once.
        skeleton: the parts of the pose file; None to find out.

    Raises:
        UserError: nothing could be predicted, or files are missing.
    """
    directory, root = paths.local(output, "--output"), paths.local(image, "--image")
    if directory.resolve() == root.resolve():
        raise UserError(f"--output={output}: is the folder of the photos; name another one.")
    paths.make_directory(directory, "--output")
    photos = image_files(root)
    if poses == "auto":
        look = _look_and_estimate(part_score_threshold)
    else:
        known = read_poses(poses, photos, part_score_threshold, skeleton)
        look = _look_up(known, drop_duplicates)
    results, skipped = [], 0
    left_out: collections.Counter[str] = collections.Counter()
    try:
        for path in photos:
            try:
                picture, found = look(path)
            except (ImageError, PoseFileError) as error:
                logging.warning("%s; skipped.", str(error).removesuffix("."))
                skipped += 1
                continue
            if found is None:
                logging.warning("%s: %s holds no pose of this photo; no mask is predicted.", path, poses)  # fmt: skip
                found = ImagePoses(path.stem, np.zeros((0, NUM_PARTS, 3), np.float32))
            left_out.update(found.left_out)
            kept = _good_enough(found, person_score_threshold, poses)
            left_out[f"{_WEAK}, {person_score_threshold:g}"] += int(np.sum(~kept))
            scores = None if found.scores is None else found.scores[kept]
            result = predictor(picture, found.poses[kept], scores)
            results += result.to_coco(found.image_id)
            _save_picture(
                directory / _below(path, root).with_name(f"{path.name}{_OVERLAY}"),
                overlays.overlay(picture, result.rles, found.poses[kept]),
            )
    finally:  # what is done is kept, whatever happens to the next photo
        if skipped < len(photos):
            coco_protocol.save_results(directory / "results.json", results)
    warn_left_out(poses, left_out)
    if skipped == len(photos):
        raise UserError(f"{image}: none of the {len(photos)} photos could be used; see above.")
    if skipped:
        logging.warning("skipped %d of %d photos.", skipped, len(photos))
    print(f"{len(results)} masks and their overlays written to {directory}")


def _look_up(known: dict[pathlib.Path, ImagePoses], drop_duplicates: bool) -> _Look:
    """Takes the poses of a photo from a file."""

    def look(path: pathlib.Path) -> tuple[np.ndarray, ImagePoses | None]:
        found = known.get(path)
        photo, found = _open(path, found)
        if found is not None:
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


def _look_and_estimate(part_score_threshold: float) -> _Look:
    """Estimates the poses of a photo."""
    from pose2seg_jax.prediction import pose_estimators

    estimate = pose_estimators.rtmo(score_threshold=part_score_threshold)

    def look(path: pathlib.Path) -> tuple[np.ndarray, ImagePoses | None]:
        picture = np.asarray(open_image(path).convert("RGB"))
        return picture, ImagePoses(path.stem, *estimate(picture))

    return look


def _good_enough(found: ImagePoses, threshold: float, source: str) -> np.ndarray:
    """(P,) whether each person's score reaches the threshold."""
    if found.scores is not None:
        return found.scores >= threshold
    if threshold and len(found.poses):
        raise UserError(
            f"{source}: holds no scores of persons, so prediction.person_score_threshold would have no"
            " effect; leave it out."
        )
    return np.ones(len(found.poses), bool)


def image_files(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns a photo, or those in a folder and the folders below it, sorted.

    Hidden files and our own overlays are no photos.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES
            and not file.name.endswith(_OVERLAY)
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
        if not files:
            raise UserError(f"{path}: holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        return files
    if not path.exists():
        raise UserError(f"{path}: does not exist; --image takes an image file or a directory.")
    return [path]


def _below(path: pathlib.Path, root: pathlib.Path) -> pathlib.Path:
    return path.relative_to(root) if root.is_dir() else pathlib.Path(path.name)


def _save_picture(path: pathlib.Path, picture: np.ndarray) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "PNG")
    paths.make_directory(path.parent, "--output")
    paths.write_atomically(path, buffer.getvalue())
