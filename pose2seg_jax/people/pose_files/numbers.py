"""Keypoints as programs nest them, as one array for a whole file. What is no number becomes NaN: a missing part."""

import collections
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from pose2seg_jax.people.pose_files.content import FilePerson, PoseFileError
from pose2seg_jax.people.skeletons import SkeletonError, columns_by_names, has_length

NO_VALUE = np.inf
_THIRD = (
    "visible", "visibility", "score", "scores", "confidence", "conf", "likelihood", "prob", "probability", "presence",
    "v", "c", "p",
)  # fmt: skip
_NAME = ("name", "part", "label", "class")
_MOST_LACKING = 2  # so many parts too few are missing ones, more are another skeleton
_DEEPEST = 4  # lists in lists


def file_parts(persons: Sequence[FilePerson], count: int | None, path: Any) -> np.ndarray:
    """Returns x, y and the third value of all parts of all persons, (P, K, 3) float64.

    K is that of most persons. NaN stands for what is no number, and in the last parts of persons whose list ends too
    early; NO_VALUE for a third value that the file does not have.

    Args:
        persons: with keypoints as `person_parts` takes them; an empty list or None is nobody.
        count: the number of parts, where it is known.
        path: of the file, for messages.

    Raises:
        PoseFileError: a person's keypoints are of another form, or of another skeleton than the others'.
    """
    flat = _stacked(persons)
    if flat is not None and count in (None, flat.shape[1]):
        return flat
    step = _step([person.keypoints for person in persons if person.part_scores is None], count)
    each = []
    for person in persons:
        try:
            each.append(person_parts(person.keypoints, person.part_scores, step))
        except SkeletonError as error:
            raise PoseFileError(f"{path}: {person.where}: {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise PoseFileError(f"{path}: {person.where}: 'keypoints' {error}.") from None
    lengths = collections.Counter(len(parts) for parts in each if len(parts))
    if not lengths:
        return np.full((len(persons), count or 17, 3), np.nan)
    most = max(lengths, key=lambda length: (lengths[length], length))
    if count not in (None, most):
        raise SkeletonError(f"persons have {most} parts, but {count} are named.")
    every = np.full((len(persons), most, 3), np.nan)
    for person, parts, row in zip(persons, each, every, strict=True):
        if len(parts) and not most - _MOST_LACKING <= len(parts) <= most:
            raise PoseFileError(
                f"{path}: {person.where}: 'keypoints' holds {len(parts)} parts, where {most} were expected as for"
                " the other persons."
            )
        row[: len(parts)] = parts
    return every


def _stacked(persons: Sequence[FilePerson]) -> np.ndarray | None:
    """All persons at once, where they are alike and hold x, y and a third value: the fast way."""
    first = persons[0].keypoints if persons else None
    if not isinstance(first, list | np.ndarray) or any(p.part_scores is not None for p in persons):
        return None
    try:
        every = np.asarray([person.keypoints for person in persons], np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    every[~np.isfinite(every)] = np.nan
    if every.ndim == 2 and every.shape[1] % 3 == 0 and has_length(every.shape[1] // 3):
        return every.reshape(len(every), -1, 3)
    return every if every.ndim == 3 and every.shape[2] == 3 else None


def _step(keypoints: list[Any], count: int | None) -> int:
    """Of how many numbers a part consists in flat lists: as in most of them."""
    lengths = collections.Counter(
        len(k) for k in keypoints if isinstance(k, list) and k and not isinstance(k[0], list | dict)
    )
    if not lengths:
        return 3
    most = max(lengths, key=lambda length: (lengths[length], length))
    pairs, triples = (
        most % step == 0 and (most // step == count if count else has_length(most // step))
        for step in (2, 3)
    )
    return 2 if pairs and not triples else 3


def person_parts(keypoints: Any, part_scores: Any = None, step: int = 3) -> np.ndarray:
    """Returns the parts of a person, (K, 3) float64.

    Args:
        keypoints: [x, y, v, x, y, v, ...], [[x, y, v], ...], [[x, y], ...], {"x": [...], "y": [...], "visible": [...]},
            [{"x": ..., "y": ..., "score": ...}, ...], one of them in a list of its own, an array; None for nobody.
        part_scores: the third values, where they stand apart.
        step: of how many numbers a part consists in a flat list without `part_scores`.

    Raises:
        ValueError: it is none of these; the message goes on after "'keypoints'".
    """
    rows = _rows(keypoints, 2 if part_scores is not None else step)
    table = np.full((len(rows), 3), np.nan)
    widths = {len(row) for row in rows if row}
    if widths - {2, 3} or (widths == {3} and part_scores is not None):
        raise ValueError(
            f"must hold x, y and one third value of each part, but holds {max(widths)}"
        )
    for values, row in zip(rows, table, strict=True):
        row[: len(values)] = [_number(value) for value in values]
    if part_scores is not None:
        scores = _unwrapped(part_scores, 1)
        if len(scores) != len(rows):
            raise ValueError(f"holds {len(rows)} parts, but there are {len(scores)} scores")
        table[:, 2] = [_number(score) for score in scores]
    elif widths == {2}:
        table[:, 2] = NO_VALUE
    return table


def _rows(keypoints: Any, step: int) -> list[list[Any]]:
    if keypoints is None:
        return []
    if isinstance(keypoints, np.ndarray):
        keypoints = keypoints.tolist()
    if isinstance(keypoints, dict):
        third = next((keypoints[name] for name in _THIRD if keypoints.get(name) is not None), None)
        columns = [_unwrapped(keypoints.get(axis), 1) for axis in ("x", "y")]
        columns += [_unwrapped(third, 1)] if third is not None else []
        return [list(row) for row in itertools.zip_longest(*columns)]
    values = _unwrapped(keypoints, 2)
    if any(isinstance(value, dict) for value in values):
        if not all(value is None or isinstance(value, dict) for value in values):
            raise ValueError("mixes objects and numbers")
        values = [value or {} for value in values]
        if not any("x" in value and "y" in value for value in values):
            raise ValueError("must hold objects with 'x' and 'y'")
        values = _in_cocos_order(values)
        third = next((name for name in _THIRD if any(name in value for value in values)), None)
        fields = ("x", "y", third) if third else ("x", "y")
        return [[value.get(field) for field in fields] for value in values]
    if any(isinstance(value, list) for value in values):
        if not all(value is None or isinstance(value, list) for value in values):
            raise ValueError("mixes numbers and lists")
        return [value or [] for value in values]
    if len(values) % step:
        raise ValueError(
            f"must hold {step} numbers a part, x, y{', v' * (step - 2)}, but holds {len(values)}"
        )
    return [values[i : i + step] for i in range(0, len(values), step)]


def _in_cocos_order(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts with names in COCO's order; as they are where they have none."""
    field = next((f for f in _NAME if all(isinstance(part.get(f), str) for part in parts)), None)
    if field is None:
        return parts
    columns = columns_by_names([part[field] for part in parts])
    return [parts[column] if column >= 0 else {} for column in columns]


def _unwrapped(values: Any, depth: int) -> list[Any]:
    """A list without the lists of one element around it."""
    for _ in range(_DEEPEST):
        if not isinstance(values, list):
            raise ValueError(f"must be a list of numbers, not {values!r:.40}")
        inner = values[0] if len(values) == 1 else None
        wraps = isinstance(inner, list) and (depth == 1 or any(isinstance(v, list | dict) for v in inner) or len(inner) > 4)  # fmt: skip
        if not wraps:
            break
        values = inner
    return values


def _number(value: Any) -> float:
    """A number, NaN for null and for what a float does not hold."""
    if value is None:
        return np.nan
    if isinstance(value, list | dict):
        raise ValueError(f"must hold numbers, not {value!r:.40}")
    try:
        number = float(value)
    except OverflowError:
        return np.nan
    except (TypeError, ValueError):
        raise ValueError(f"must hold numbers, not {value!r:.40}") from None
    return number if np.isfinite(number) else np.nan
