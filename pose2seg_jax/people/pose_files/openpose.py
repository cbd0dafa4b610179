"""OpenPose's JSON, and what ControlNet's nodes, DWPose and AlphaPose write after its pattern."""

import os
from collections.abc import Mapping
from typing import Any

from pose2seg_jax.people.pose_files.content import (
    FileContent,
    ImageKey,
    PoseFileError,
    whole_size,
)


def frames(content: list[dict[str, Any]], path: str | os.PathLike, own_name: str) -> FileContent:
    """Reads objects with 'people', which name no image: one is of the image that the file is named after."""
    if len(content) == 1:
        return _images({own_name: content[0]}, path, is_named=False)
    return _images(dict(enumerate(content)), path, is_named=False)


def by_image(content: dict[str, Any], path: str | os.PathLike) -> FileContent:
    """Reads AlphaPose's `--format open`: image name -> an object with 'people'."""
    return _images(content, path, is_named=True)


def _images(
    frames: Mapping[Any, dict[str, Any]], path: str | os.PathLike, is_named: bool
) -> FileContent:
    found = FileContent("OpenPose")
    key: ImageKey
    for key, frame in frames.items():
        size = whole_size(frame.get("canvas_height"), frame.get("canvas_width"))
        found.add_image(key, size=size, is_named=is_named)
        people = frame.get("people")
        if not isinstance(people, list):
            raise PoseFileError(f"{path}: is no file of OpenPose: it has no list 'people'.")
        for index, person in enumerate(people):
            where = f"people[{index}]" + (f" of {key}" if len(frames) > 1 else "")
            if not isinstance(person, dict) or "pose_keypoints_2d" not in person:
                raise PoseFileError(f"{path}: {where}: has no 'pose_keypoints_2d'.")
            found.add_person(key, person["pose_keypoints_2d"], where, id=index)
    return found
