"""COCO annotations, COCO keypoint results, and lists of their kind: AlphaPose, OpenPifPaf, demos of estimators."""

import collections
import os
from collections.abc import Sequence
from typing import Any

from pose2seg_jax.people.parts import PERSON_CATEGORY
from pose2seg_jax.people.pose_files import content as contents
from pose2seg_jax.people.pose_files.content import FileContent, ImageKey, PoseFileError, image_key

_PERSON_NAMES = {"person", "persons", "people", "human", "pedestrian"}
# The category of persons in files without names of categories: COCO's, counted from 0, or none.
_PERSON_KEYS = (PERSON_CATEGORY, 0, None)
# Under which keys programs name the image of a result.
_IMAGE_FIELDS = ("image_id", "image_path", "file_name", "filename", "image_name", "image", "img_path", "img_name")  # fmt: skip


def annotations(content: dict[str, Any], path: str | os.PathLike) -> FileContent:
    """Reads COCO annotations. A prediction needs keypoints, and which image they are of; nothing else is looked at."""
    for field in ("images", "annotations", "categories"):
        entries = content.get(field, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise PoseFileError(f"{path}: '{field}' must be a list of objects.")
    found = FileContent("COCO annotations")
    categories = _person_categories(content.get("categories", []), path)
    entries = _of_persons(content["annotations"], content.get("categories", []), categories, path)
    found.left_out["annotations of other categories"] = len(content["annotations"]) - len(entries)
    if entries and not any("keypoints" in entry for entry in entries):
        raise PoseFileError(
            f"{path}: no annotation has 'keypoints'; is this COCO's instances file? Poses are in person_keypoints."
        )
    names = next((c["keypoints"] for c in categories if c.get("keypoints")), None)
    found.part_names = contents.part_names(names, path)
    _add_images(found, content.get("images", []), path)
    for index, entry in enumerate(entries):
        where = f"annotation {entry.get('id', f'number {index}')}"
        if is_crowd(entry.get("iscrowd", 0)):
            found.left_out["crowds (iscrowd)"] += 1
            continue
        key = image_key(entry.get("image_id"))
        if key is not None and "images" not in content:
            found.add_image(key)
        if key not in found.images:
            key = _other_spelling(key)
        if key is None or key not in found.images:
            raise PoseFileError(
                f"{path}: {where}: its image_id {entry.get('image_id')!r:.40} is not in 'images'."
            )
        found.add_person(key, entry.get("keypoints"), where, score=entry.get("score"), id=entry.get("id"))  # fmt: skip
    return found


def is_crowd(value: Any) -> bool:
    """Returns what `iscrowd` says; converters also write it as text."""
    return value not in (0, None, False, "", "0", "0.0", "false", "False")


def results(content: list[dict[str, Any]], path: str | os.PathLike, own_name: str) -> FileContent:
    """Reads a list of persons with 'keypoints'; those without an image are of the image that the file is named after."""
    found = FileContent("COCO keypoint results")
    field = next((f for f in _IMAGE_FIELDS if any(f in entry for entry in content)), None)
    if not content:
        found.add_image(own_name, is_named=False)
    entries = _of_persons(content, [], [], path)
    found.left_out["results of other categories (category_id)"] = len(content) - len(entries)
    for index, entry in enumerate(entries):
        if "keypoints" not in entry:
            raise PoseFileError(f"{path}: result {index} has no 'keypoints'.")
        named = entry.get(field) if field else own_name
        key = image_key(named)
        if key is None:
            raise PoseFileError(
                f"{path}: result {index}: '{field}' must name its image, but is {named!r:.40}."
            )
        found.add_image(key, is_named=field is not None)
        found.add_person(
            key, entry["keypoints"], f"result {index}",
            part_scores=entry.get("keypoint_scores"), score=entry.get("score"), id=index,
        )  # fmt: skip
    return found


def _add_images(found: FileContent, entries: list[dict[str, Any]], path: Any) -> None:
    for index, entry in enumerate(entries):
        key = image_key(entry.get("id"))
        if key is None:
            raise PoseFileError(f"{path}: images[{index}]: 'id' must be a number or a text.")
        name = entry.get("file_name")
        size = contents.whole_size(entry.get("height"), entry.get("width"))
        image = contents.FileImage(key, name if isinstance(name, str) and name else None, size)
        if found.images.setdefault(key, image) != image:
            raise PoseFileError(f"{path}: the id {key} stands twice in 'images'.")


def _person_categories(categories: list[dict[str, Any]], path: Any) -> list[dict[str, Any]]:
    persons = [c for c in categories if str(c.get("name")).strip().casefold() in _PERSON_NAMES]
    if not persons and len(categories) == 1 and categories[0].get("keypoints"):
        return categories  # whatever it is called: the names of its parts decide
    if categories and not persons:
        names = ", ".join(sorted(str(category.get("name")) for category in categories)[:5])
        raise PoseFileError(f"{path}: has no category 'person', but {names}.")
    return persons


def _of_persons(
    entries: list[dict[str, Any]],
    categories: Sequence[Any],
    persons: list[dict[str, Any]],
    path: Any,
) -> list[dict[str, Any]]:
    """The entries of persons: those of a category that is named so, or of COCO's, or all where there is only one."""
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


def _category(value: Any) -> ImageKey | None:
    """A category id as a number where it is one, also as text."""
    key = image_key(value)
    return contents.whole_number(key) if isinstance(key, str) and key.isdecimal() else key


def _other_spelling(key: ImageKey | None) -> ImageKey | None:
    """7 for "7", and the other way round."""
    return contents.whole_number(key) if isinstance(key, str) else str(key)
