"""Which image of a pose file is which frame of a video."""

import logging
import os
from collections.abc import Mapping

from pose2seg_jax.people.pose_files.content import FileImage, ImageKey, PoseFileError
from pose2seg_jax.people.pose_files.matching import last_number


def match_frames(
    images: Mapping[ImageKey, FileImage], count: int, path: str | os.PathLike
) -> dict[int, ImageKey]:
    """Finds the images of a pose file among the frames of a video.

    Images are frames by the last number in their names ("clip_000012", "12.jpg", 12). The first frame is 0, unless the file
    knows no frame 0, but 1 or one more at the end. Where the file names no images, they are the frames in their order.

    Args:
        images: of the file, by key.
        count: of the frames.
        path: of the file, for messages.

    Returns:
        Index of the frame, from 0 on -> key of its image. Frames that the file does not know are left out.

    Raises:
        PoseFileError: two images are one frame, or the video has no such frame.
    """
    unnamed = [key for key, image in images.items() if not image.is_named]
    if unnamed:
        if len(unnamed) > count:
            raise PoseFileError(f"{path}: holds {len(unnamed)} frames, but the video has {count}.")
        return dict(enumerate(unnamed))
    numbers: dict[int, ImageKey] = {}
    for key, image in images.items():
        name = image.name if image.name is not None else image.id
        number = name if isinstance(name, int) else last_number(name)
        if number is None:
            raise PoseFileError(f"{path}: image {image} has no number of a frame in its name.")
        if number in numbers:
            raise PoseFileError(
                f"{path}: {images[numbers[number]]} and {image} are both frame {number}; give the poses of one video."
            )
        numbers[number] = key
    first = int(0 not in numbers and (1 in numbers or count in numbers))
    if numbers and 0 not in numbers:
        logging.warning("%s: has no frame 0, so its frames are counted from %d.", path, first)
    beyond = [number for number in numbers if not first <= number < first + count]
    if beyond:
        raise PoseFileError(
            f"{path}: knows frame {max(beyond)}, but the video has {count}; is it of another video?"
        )
    return {number - first: key for number, key in numbers.items()}
