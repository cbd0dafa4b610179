"""Pose files for one's own images: COCO annotations and COCO keypoint results."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from input_pipeline import coco


@dataclasses.dataclass(frozen=True, eq=False)
class ImagePoses:
    """The poses of one image.

    Attributes:
        image_id: as the pose file names the image.
        poses: (P, 17, 3) in continuous image coordinates.
        size: (height, width) where the file says it.
    """

    image_id: int | str
    poses: np.ndarray
    size: tuple[int, int] | None


def read_poses(
    path: str | pathlib.Path, images: Sequence[pathlib.Path], score_threshold: float
) -> dict[pathlib.Path, ImagePoses]:
    """Reads a pose file and matches it with images.

    COCO annotations name their images by file name; COCO keypoint results by an id, which is the
    file's name, its stem, or the number in it (COCO's 000000000785.jpg is 785).

    Args:
        path: COCO annotations or COCO keypoint results.
        images: the image files.
        score_threshold: see `coco.read_keypoint_results`.

    Returns:
        Image file -> its poses; images that the file does not know are left out.

    Raises:
        coco.CocoError: the file is of another kind, or knows none of the images.
    """
    path = pathlib.Path(path)
    found: dict[str, ImagePoses] = {}
    if _is_list(path):
        for image_id, poses in coco.read_keypoint_results(path, score_threshold).items():
            found[str(image_id)] = ImagePoses(image_id, poses, None)
    else:
        for image in coco.read(path).images:
            stacked = np.zeros((len(image.posed), coco.NUM_PARTS, 3), np.float32)
            for row, person in zip(stacked, image.posed, strict=True):
                row[:] = person.pose
            found[image.file_name] = ImagePoses(image.id, stacked, (image.height, image.width))
    matched = {}
    for file in images:
        for key in (file.name, file.stem, file.stem.lstrip("0")):
            if key in found:
                matched[file] = found[key]
                break
    if not matched:
        raise coco.CocoError(
            f"{path}: holds no pose of {images[0]}"
            + (f" or the {len(images) - 1} other images" if len(images) > 1 else "")
            + f"; it knows {', '.join(list(found)[:3]) or 'no image'}{', ...' if len(found) > 3 else ''}."
        )
    return matched


def _is_list(path: pathlib.Path) -> bool:
    try:
        with path.open() as file:
            return file.read(100).lstrip().startswith("[")
    except (OSError, ValueError):
        return False  # `coco.read` says what is wrong
