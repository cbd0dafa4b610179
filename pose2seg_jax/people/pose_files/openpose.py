"""OpenPose's JSON, and what ControlNet's nodes, DWPose and AlphaPose write after its pattern."""

import os
from typing import Any

from pose2seg_jax.people.pose_files.content import (
    FileContent,
    FileImage,
    FilePerson,
    ImageKey,
    PoseFileError,
    whole_size,
)  # fmt: skip


def frames(content: list[dict[str, Any]], path: str | os.PathLike, own_name: str) -> FileContent:
    """Reads objects with 'people': one is of the image that the file is named after, several are numbered from 0."""
    several = len(content) > 1
    named = {number if several else own_name: frame for number, frame in enumerate(content)}
    return _images(named, path, is_named=several)


def by_image(content: dict[str, Any], path: str | os.PathLike) -> FileContent:
    """Reads AlphaPose's `--format open`: image name -> an object with 'people'."""
    return _images(dict(content), path, is_named=True)


def _images(
    frames: dict[Any, dict[str, Any]], path: str | os.PathLike, is_named: bool
) -> FileContent:
    persons: list[FilePerson] = []
    images: dict[ImageKey, FileImage] = {}
    for key, frame in frames.items():
        size = whole_size(frame.get("canvas_height"), frame.get("canvas_width"))
        images[key] = FileImage(key, size=size, is_named=is_named)
        people = frame.get("people")
        if not isinstance(people, list):
            raise PoseFileError(f"{path}: is no file of OpenPose: it has no list 'people'.")
        for index, person in enumerate(people):
            where = f"people[{index}]" + (f" of {key}" if is_named else "")
            if not isinstance(person, dict) or "pose_keypoints_2d" not in person:
                raise PoseFileError(f"{path}: {where}: has no 'pose_keypoints_2d'.")
            persons.append(FilePerson(key, person["pose_keypoints_2d"], where, id=index))
    return FileContent("OpenPose", persons, images)
