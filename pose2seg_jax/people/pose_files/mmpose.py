"""JSON of MMPose's demos: 'instance_info' of a photo, or of the frames of a video."""

import os
from typing import Any

from pose2seg_jax.people.pose_files import persons
from pose2seg_jax.people.pose_files.content import FileContent, PoseFileError, part_names


def instances(
    content: list[Any], path: str | os.PathLike, own_name: str, meta: Any = None
) -> FileContent:
    """Reads persons, or frames ('frame_id') of 'instances'.

    Args:
        content: the list.
        path: of the file.
        own_name: which image the file is named after.
        meta: 'meta_info', which names the parts.
    """
    if not all(isinstance(entry, dict) for entry in content):
        raise PoseFileError(f"{path}: 'instance_info' must be a list of objects.")
    by_number = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    names = None
    if isinstance(by_number, dict):
        names = [by_number.get(str(number)) for number in range(len(by_number))]
    if not any("instances" in entry for entry in content):
        return persons.read(content, path, own_name.removeprefix("results_"), names)
    found = FileContent("persons", part_names=part_names(names, path))
    known = persons.Fields()
    for entry in content:
        key, people = entry.get("frame_id"), entry.get("instances")
        if isinstance(key, bool) or not isinstance(key, int | str) or not isinstance(people, list):
            raise PoseFileError(f"{path}: a frame needs a 'frame_id' and a list 'instances'.")
        found.add_image(key)
        for index, person in enumerate(people):
            persons.add(found, key, person, f"instance {index} of frame {key}", index, path, known)
    return found
