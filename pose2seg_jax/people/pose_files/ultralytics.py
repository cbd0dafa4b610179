"""What Ultralytics writes: JSON of its results, and YOLO-pose label files."""

import os
from typing import Any

import numpy as np

from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.people.pose_files.content import (
    FileContent,
    FileImage,
    FilePerson,
    PoseFileError,
)  # fmt: skip
from pose2seg_jax.people.skeletons import has_length

_PERSON_CLASS = 0
_EXTRAS = (0, 1, 2)  # numbers after the parts: none, a confidence, and a track number


def results(content: list[dict[str, Any]], path: str | os.PathLike, own_name: str) -> FileContent:
    """Reads the list that `Results.to_json()` gives for one photo."""
    persons = []
    others = 0
    for index, entry in enumerate(content):
        if entry.get("class", _PERSON_CLASS) != _PERSON_CLASS:
            others += 1
            continue
        where = f"result {index}"
        if "keypoints" not in entry:
            raise PoseFileError(f"{path}: {where} has no 'keypoints'; use a model for poses.")
        persons.append(FilePerson(own_name, entry["keypoints"], where, None, entry.get("confidence"), index))  # fmt: skip
    images = {own_name: FileImage(own_name, is_named=False)}
    return FileContent(
        "Ultralytics", persons, images,  # type: ignore[arg-type]
        left_out={"results of other classes": others},
    )  # fmt: skip


def labels(text: str, path: str | os.PathLike, own_name: str) -> FileContent:
    """Reads a label file: class, box, then x, y and perhaps a third value of each part, in 0..1 of the photo.

    A confidence and a track number may follow, as `save_conf=True` and `track` write them.
    """
    persons, others = [], 0
    for number, line in enumerate(text.splitlines(), 1):
        where = f"line {number}"
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            raise PoseFileError(f"{path}: {where} must hold numbers, as a YOLO label file does.") from None  # fmt: skip
        if not values:
            continue
        if values[0] != _PERSON_CLASS:
            others += 1
            continue
        numbers = values[5:]
        layouts = [((len(numbers) - e) // s, s) for e in _EXTRAS for s in (3, 2) if _fits(len(numbers) - e, s)]  # fmt: skip
        if not layouts:
            raise PoseFileError(
                f"{path}: {where} holds {len(values)} numbers; expected 5 (class and box) and x, y, visibility of each"
                " part."
            )
        parts, step = min(
            layouts, key=lambda layout: layout[0] != NUM_PARTS
        )  # the first, or COCO's
        score = numbers[parts * step] if len(numbers) > parts * step else None
        shape = np.reshape(numbers[: parts * step], (parts, step))
        persons.append(FilePerson(own_name, shape, where, None, score, number))
    if others and not persons:
        raise PoseFileError(f"{path}: all {others} lines are of other classes than 0, a person.")
    return FileContent(
        "YOLO labels", persons, {own_name: FileImage(own_name, is_named=False)},  # type: ignore[arg-type]
        fractions=True, left_out={"lines of other classes": others},
    )  # fmt: skip


def _fits(count: int, step: int) -> bool:
    return count > 0 and count % step == 0 and has_length(count // step)
