"""Which entries of a file are persons: by category, and no crowds."""

import collections
from collections.abc import Sequence
from typing import Any

from pose2seg_jax.people.parts import PERSON_CATEGORY
from pose2seg_jax.people.pose_files.content import (
    ImageKey,
    PoseFileError,
    image_key,
    whole_number,
)

PERSON_NAMES = {"person", "persons", "people", "human", "pedestrian"}
# The category of persons in files without names of categories: COCO's, counted from 0, or none.
_PERSON_KEYS = (PERSON_CATEGORY, 0, None)


def person_categories(categories: list[dict[str, Any]], path: Any) -> list[dict[str, Any]]:
    """Returns the categories that are persons.

    Raises:
        PoseFileError: there are categories, and none is.
    """
    persons = [c for c in categories if str(c.get("name")).strip().casefold() in PERSON_NAMES]
    if not persons and len(categories) == 1 and categories[0].get("keypoints"):
        return categories  # whatever it is called: the names of its parts decide
    if categories and not persons:
        names = ", ".join(sorted(str(category.get("name")) for category in categories)[:5])
        raise PoseFileError(f"{path}: has no category 'person', but {names}.")
    return persons


def of_persons(
    entries: list[dict[str, Any]],
    categories: Sequence[Any],
    persons: list[dict[str, Any]],
    path: Any,
) -> list[dict[str, Any]]:
    """Returns the entries of persons: of a category that is named so, or of COCO's, or all where there is only one.

    Args:
        entries: of the file, perhaps with a 'category_id'.
        categories: all categories of the file.
        persons: those of them that are persons.
        path: of the file, for messages.

    Raises:
        PoseFileError: there are entries, and none is of a person.
    """
    keys = [_category(entry.get("category_id")) for entry in entries]
    counts = collections.Counter(keys)
    wanted = [_category(person.get("id")) for person in persons]
    if not categories:
        wanted = [PERSON_CATEGORY] if len(counts) > 1 else list(_PERSON_KEYS)
    kept = [entry for entry, key in zip(entries, keys, strict=True) if key in wanted]
    if entries and not kept:
        if len(categories) == 1 and len(counts) == 1:
            return entries  # there is one category, whatever number the entries give it
        others = ", ".join(sorted(map(repr, counts))[:5])
        known = ", ".join(map(repr, wanted[:1])) or "that"
        raise PoseFileError(
            f"{path}: none has the category_id of a person ({known}); those that are there: {others}."
        )
    return kept


def is_crowd(value: Any) -> bool:
    """Returns what `iscrowd` says; converters also write it as text."""
    return value not in (0, None, False, "", "0", "0.0", "false", "False")


def _category(value: Any) -> ImageKey | None:
    """A category id as a number where it is one, also as text."""
    key = image_key(value)
    return whole_number(key) if isinstance(key, str) and key.isdecimal() else key
