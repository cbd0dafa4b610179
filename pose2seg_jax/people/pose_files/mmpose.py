"""JSON of MMPose: the inferencer's list of persons, and the demos' 'instance_info', of a photo or of a video's frames."""

import os
from typing import Any

from pose2seg_jax.people.pose_files.content import (
    FileContent,
    FileImage,
    FilePerson,
    ImageKey,
    PoseFileError,
)  # fmt: skip


def instances(
    content: list[dict[str, Any]], path: str | os.PathLike, own_name: str, meta: Any = None
) -> FileContent:
    """Reads persons with 'keypoints' and 'keypoint_scores', or frames ('frame_id') of such 'instances'.

    Args:
        content: the list.
        path: of the file.
        own_name: which image the file is named after.
        meta: 'meta_info', which names the parts.
    """
    persons: list[FilePerson] = []
    images: dict[ImageKey, FileImage] = {}
    if any("instances" in entry for entry in content):
        frames = [(e.get("frame_id"), e.get("instances"), f" of frame {e.get('frame_id')}") for e in content]  # fmt: skip
    else:
        frames = [(own_name, content, "")]
    for key, found, of_frame in frames:
        if isinstance(key, bool) or not isinstance(key, int | str) or not isinstance(found, list):
            raise PoseFileError(f"{path}: a frame needs a 'frame_id' and a list 'instances'.")
        images[key] = FileImage(key, is_named=bool(of_frame))
        for index, person in enumerate(found):
            where = f"instance {index}{of_frame}"
            if not isinstance(person, dict) or "keypoints" not in person:
                raise PoseFileError(f"{path}: {where} has no 'keypoints'.")
            score = person.get("bbox_score")
            scores = person.get("keypoint_scores")
            persons.append(FilePerson(key, person["keypoints"], where, scores, score, index))
    return FileContent("MMPose", persons, images, _names(meta))


def _names(meta: Any) -> tuple[str, ...] | None:
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        return None
    numbers = {int(number): name for number, name in names.items() if number.isdecimal()}
    return tuple(numbers[i] for i in range(len(numbers))) if set(numbers) == set(range(len(names))) else None  # fmt: skip
