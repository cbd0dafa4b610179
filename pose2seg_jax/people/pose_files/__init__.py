"""Pose files of other programs, whatever the format, as one normal form: image -> persons with COCO's 17 parts.

`formats` finds the reader of a file; each reader (a module a family of formats) only translates structure.
What the numbers mean is decided once, behind the readers, in `normal_form`: `numbers`, `visibility`, then whether the poses can be
those of a photo. `matching` finds which photo a pose belongs to. No images are read here. docs/pose_files.md is for users.
"""

import os
import pathlib
from collections.abc import Sequence

from pose2seg_jax.people.pose_files.content import PoseFileError
from pose2seg_jax.people.pose_files.matching import Photo
from pose2seg_jax.people.pose_files.normal_form import ImagePoses, PoseFile, read, warn_left_out
from pose2seg_jax.people.pose_files.visibility import visibilities_from_scores

__all__ = [
    "ImagePoses",
    "Photo",
    "PoseFile",
    "PoseFileError",
    "match_photos",
    "read",
    "read_poses",
    "visibilities_from_scores",
    "warn_left_out",
]

_NUMBERED = " The file numbers its images: photos need these numbers in their names, or the file their names as image_id."


def read_poses(
    path: str | os.PathLike,
    photos: Sequence[pathlib.Path],
    part_score_threshold: float,
    skeleton: str | None = None,
) -> dict[pathlib.Path, ImagePoses]:
    """Reads a pose file, or a folder with one file a photo, and matches it with photos.

    Args:
        path: of the file or folder; docs/pose_files.md lists the formats.
        photos: the image files.
        part_score_threshold: a part with a lower score is missing.
        skeleton: a name of `skeletons.SKELETONS`; None to take the file's own names, or the number of parts.

    Returns:
        Photo -> its poses, before `ImagePoses.on_photo`; photos that the file does not know are left out.

    Raises:
        UserError: the file cannot be read or used, or knows none of the photos, or does not say clearly which one.
    """
    return match_photos(read(path, part_score_threshold, skeleton), photos)


def match_photos(file: PoseFile, photos: Sequence[pathlib.Path]) -> dict[pathlib.Path, ImagePoses]:
    """Finds the poses of photos in a pose file.

    Returns:
        As `read_poses`.

    Raises:
        PoseFileError: the file knows none of the photos, or does not say clearly which one.
    """
    matched = file.match([Photo(os.path.abspath(photo)) for photo in photos])
    if photos and not matched:
        known = [str(image) for image in list(file.images.values())[:3]]
        raise PoseFileError(
            f"{file.path}: holds no pose of {photos[0]}"
            + (f" or the {len(photos) - 1} other photos" if len(photos) > 1 else "")
            + f"; it knows {', '.join(known) or 'no image'}{', ...' if len(file.images) > 3 else ''}."
            + (_NUMBERED if all(isinstance(image, int) for image in file.images) else "")
        )
    return {photos[number]: found for number, found in matched.items()}
