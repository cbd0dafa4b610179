"""YOLO-pose label files, as data sets have them and Ultralytics writes them."""

import collections
import logging
import os
from typing import Any

import numpy as np

from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.people.pose_files.content import FileContent, PoseFileError
from pose2seg_jax.people.skeletons import has_length

_PERSON_CLASS = 0
_BEFORE = 5  # numbers of a line before the parts: the class and the box
_MOST_AFTER = 2  # after them: a confidence (`save_conf`) and a number (`track`)


def labels(
    text: str, path: str | os.PathLike, own_name: str, count: int | None = None
) -> FileContent:
    """Reads a label file: class, box, then x, y and perhaps a third value of each part, in 0..1 of the photo.

    Args:
        text: of the file.
        path: of the file.
        own_name: which image the file is named after.
        count: of the parts, where it is known.
    """
    found = FileContent("YOLO labels", fractions=True)
    found.add_image(own_name, is_named=False)
    rows: dict[int, list[float]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            raise PoseFileError(
                f"{path}: line {number} must hold numbers, as a YOLO label file does."
            ) from None
        if values and values[0] != _PERSON_CLASS:
            found.left_out["lines of other classes"] += 1
        elif values:
            rows[number] = values
    if not rows:
        return found
    parts, step = _layout(rows, path, count)
    end = _BEFORE + parts * step
    # With one number after the parts, it is a confidence, or where all are whole, those of a track.
    single = [values[end] for values in rows.values() if len(values) == end + 1]
    tracks = bool(single) and all(value >= 1 and value == int(value) for value in single)
    for number, values in rows.items():
        score = values[end] if len(values) > end + tracks else None
        keypoints = np.reshape(values[_BEFORE:end], (parts, step))
        found.add_person(own_name, keypoints, f"line {number}", score=score, id=number)
    return found


def _layout(rows: dict[int, list[float]], path: Any, count: int | None) -> tuple[int, int]:
    """How many parts of how many numbers all lines have; COCO's where several are possible."""
    fitting: collections.Counter[tuple[int, int]] = collections.Counter()
    for number, values in rows.items():
        layouts = [
            ((rest - after) // step, step)
            for rest in [len(values) - _BEFORE]
            for after in range(_MOST_AFTER + 1)
            for step in (3, 2)
            if rest > after and (rest - after) % step == 0
        ]
        layouts = [x for x in layouts if (x[0] == count if count else has_length(x[0]))]
        if not layouts:
            raise PoseFileError(
                f"{path}: line {number} holds {len(values)} numbers; expected {_BEFORE} (class and box) and x, y, visibility"
                f" of each of {count or 'its'} parts."
            )
        fitting.update(layouts)
    found = [layout for layout, times in fitting.items() if times == len(rows)]
    if not found:
        raise PoseFileError(f"{path}: the lines hold different numbers of parts.")
    found.sort(key=lambda layout: layout[0] != NUM_PARTS)
    exact = all(len(values) == _BEFORE + found[0][0] * found[0][1] for values in rows.values())
    if len(found) > 1 and not exact:
        others = " or ".join(f"{parts} parts of {step} numbers" for parts, step in found[1:])
        logging.warning(
            "%s: the lines are read as %d parts of %d numbers; they may also be %s (--skeleton=NAME).", path, *found[0], others
        )  # fmt: skip
    return found[0]
