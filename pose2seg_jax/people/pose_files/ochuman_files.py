"""OCHuman's own file, as poses for a prediction; `people.ochuman` makes it a data set to evaluate on."""

import os
from typing import Any

from pose2seg_jax.people.ochuman import VISIBILITY
from pose2seg_jax.people.pose_files.content import (
    FileContent,
    PoseFileError,
    part_names,
    whole_size,
)


def read(content: dict[str, Any], path: str | os.PathLike) -> FileContent:
    """Reads images with their annotations inside, and the names of the parts."""
    names = part_names(content["keypoint_names"], path)
    found = FileContent("OCHuman", part_names=names, visibilities=VISIBILITY)
    for index, image in enumerate(content["images"]):
        fields = ("file_name", str), ("annotations", list)
        if not isinstance(image, dict) or not all(isinstance(image.get(f), k) for f, k in fields):
            raise PoseFileError(
                f"{path}: images[{index}]: OCHuman needs 'file_name' and 'annotations'."
            )
        name = image["file_name"]
        found.add_image(name, size=whole_size(image.get("height"), image.get("width")))
        for number, person in enumerate(image["annotations"]):
            where = f"image {name}, person {number}"
            if not isinstance(person, dict):
                raise PoseFileError(f"{path}: {where} is no object.")
            found.add_person(name, person.get("keypoints"), where, id=number)
    return found
