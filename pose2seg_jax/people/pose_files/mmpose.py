"""JSON of MMPose: the inferencer's list of persons, and the demos' 'instance_info', of a photo or of a video's frames."""

import os
from typing import Any

from pose2seg_jax.people.pose_files.content import FileContent, PoseFileError, part_names


def instances(
    content: list[Any], path: str | os.PathLike, own_name: str, meta: Any = None
) -> FileContent:
    """Reads persons with 'keypoints' and 'keypoint_scores', or frames ('frame_id') of such 'instances'.

    Args:
        content: the list.
        path: of the file.
        own_name: which image the file is named after.
        meta: 'meta_info', which names the parts.
    """
    if not all(isinstance(entry, dict) for entry in content):
        raise PoseFileError(f"{path}: 'instance_info' must be a list of objects.")
    found = FileContent("MMPose", part_names=_names(meta, path))
    if not any("instances" in entry for entry in content):
        found.add_image(own_name, is_named=False)
        _add(found, own_name, content, path, "")
        return found
    for entry in content:
        key, persons = entry.get("frame_id"), entry.get("instances")
        if isinstance(key, bool) or not isinstance(key, int | str) or not isinstance(persons, list):
            raise PoseFileError(f"{path}: a frame needs a 'frame_id' and a list 'instances'.")
        found.add_image(key)
        _add(found, key, persons, path, f" of frame {key}")
    return found


def _add(found: FileContent, key: int | str, persons: list[Any], path: Any, of_frame: str) -> None:
    for index, person in enumerate(persons):
        where = f"instance {index}{of_frame}"
        if not isinstance(person, dict) or "keypoints" not in person:
            raise PoseFileError(f"{path}: {where} has no 'keypoints'.")
        found.add_person(
            key, person["keypoints"], where, part_scores=person.get("keypoint_scores"),
            score=person.get("bbox_score", person.get("score")), id=index,
        )  # fmt: skip


def _names(meta: Any, path: Any) -> tuple[str, ...] | None:
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(names, dict):
        return None
    return part_names([names.get(str(number)) for number in range(len(names))], path)
