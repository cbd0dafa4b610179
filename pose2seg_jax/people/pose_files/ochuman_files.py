"""OCHuman's own file, as poses for a prediction; `people.ochuman` makes it a data set to evaluate on."""

import os
from typing import Any

from pose2seg_jax.people.ochuman import VISIBILITY
from pose2seg_jax.people.pose_files.content import (
    FileContent,
    FileImage,
    FilePerson,
    ImageKey,
    PoseFileError,
    whole_size,
)  # fmt: skip


def read(content: dict[str, Any], path: str | os.PathLike) -> FileContent:
    """Reads images with their annotations inside, and the names of the parts."""
    names, persons = content["keypoint_names"], []
    images: dict[ImageKey, FileImage] = {}
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PoseFileError(f"{path}: 'keypoint_names' must be the names of the parts.")
    for index, image in enumerate(content["images"]):
        fields = ("file_name", str), ("annotations", list)
        if not isinstance(image, dict) or not all(isinstance(image.get(f), k) for f, k in fields):
            raise PoseFileError(f"{path}: images[{index}]: OCHuman needs 'file_name' and 'annotations'.")  # fmt: skip
        name = image["file_name"]
        images[name] = FileImage(name, name, whole_size(image.get("height"), image.get("width")))
        for number, person in enumerate(image["annotations"]):
            where = f"image {name}, person {number}"
            if not isinstance(person, dict):
                raise PoseFileError(f"{path}: {where} is no object.")
            persons.append(FilePerson(name, person.get("keypoints"), where, id=number))
    return FileContent("OCHuman", persons, images, tuple(names), visibilities=VISIBILITY)
