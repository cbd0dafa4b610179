"""COCO annotations, COCO keypoint results, and lists of their kind: AlphaPose, OpenPifPaf, demos of estimators."""

import collections
import os
from typing import Any

from pose2seg_jax.people.pose_files.content import (
    FileContent,
    FileImage,
    FilePerson,
    ImageKey,
    PoseFileError,
    image_key,
    whole_number,
    whole_size,
)  # fmt: skip

_PERSON_NAMES = {"person", "persons", "people", "human", "pedestrian"}
# Under which keys programs name the image of a result.
_IMAGE_FIELDS = ("image_id", "image_path", "file_name", "filename", "image_name", "image", "img_path", "img_name")  # fmt: skip


def annotations(content: dict[str, Any], path: str | os.PathLike) -> FileContent:
    """Reads COCO annotations. A prediction needs keypoints, and which image they are of; nothing else is looked at."""
    for field in ("images", "annotations", "categories"):
        entries = content.get(field, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise PoseFileError(f"{path}: '{field}' must be a list of objects.")
    categories = content.get("categories", [])
    persons = _person_categories(categories, path)
    entries = content["annotations"]
    left_out: collections.Counter[str] = collections.Counter()
    if len(categories) > 1 or (persons and any("category_id" in e for e in entries)):
        ids = [category.get("id") for category in persons]
        kept = [entry for entry in entries if entry.get("category_id") in ids]
        if kept or len(categories) > 1:
            left_out["annotations of other categories"] = len(entries) - len(kept)
            if entries and not kept:
                others = sorted({repr(e.get("category_id")) for e in entries})[:5]
                raise PoseFileError(
                    f"{path}: no annotation has the category_id of a person ({', '.join(map(repr, ids))}); they"
                    f" have {', '.join(others)}."
                )
            entries = kept
    if entries and not any("keypoints" in entry for entry in entries):
        raise PoseFileError(
            f"{path}: no annotation has 'keypoints'; is this COCO's instances file? Poses are in person_keypoints."
        )
    images: dict[ImageKey, FileImage] = {}
    for index, entry in enumerate(content.get("images", [])):
        name = entry.get("file_name")
        key = image_key(entry.get("id"))
        if key is None:
            raise PoseFileError(f"{path}: images[{index}]: 'id' must be a number or a text.")
        size = whole_size(entry.get("height"), entry.get("width"))
        image = FileImage(key, name if isinstance(name, str) else None, size)
        if key in images and images[key] != image:
            raise PoseFileError(f"{path}: the id {key} stands twice in 'images'.")
        images[key] = image
    found: list[FilePerson] = []
    for index, entry in enumerate(entries):
        where = f"annotation {entry.get('id', f'number {index}')}"
        if is_crowd(entry.get("iscrowd", 0)):
            left_out["crowds (iscrowd)"] += 1
            continue
        key = image_key(entry.get("image_id"))
        if key is not None and "images" not in content:
            images[key] = FileImage(key)
        elif key not in images:
            key = _other_spelling(key, images)
        if key is None:
            raise PoseFileError(
                f"{path}: {where}: its image_id {entry.get('image_id')!r:.40} is not in 'images'."
            )
        score = entry.get("score")
        found.append(
            FilePerson(key, entry.get("keypoints"), where, score=score, id=entry.get("id"))
        )
    names = next((category["keypoints"] for category in persons if category.get("keypoints")), None)
    return FileContent(
        "COCO annotations", found, images, _part_names(names, path), left_out=dict(left_out)
    )


def is_crowd(value: Any) -> bool:
    """Returns what `iscrowd` says; converters also write it as text."""
    return value not in (0, None, False, "", "0", "0.0", "false", "False")


def results(content: list[dict[str, Any]], path: str | os.PathLike, own_name: str) -> FileContent:
    """Reads a list of persons with 'keypoints'; those without an image are of the image that the file is named after."""
    persons: list[FilePerson] = []
    images: dict[ImageKey, FileImage] = {}
    field = next((f for f in _IMAGE_FIELDS if any(f in entry for entry in content)), None)
    categories = collections.Counter(repr(entry.get("category_id")) for entry in content)
    left_out = {}
    if len(categories) > 1 and "1" in categories:
        left_out["results of other categories (category_id)"] = len(content) - categories["1"]
        content = [entry for entry in content if entry.get("category_id") == 1]
    elif len(categories) > 1:
        raise PoseFileError(
            f"{path}: the results are of the categories {', '.join(sorted(categories)[:5])}, and none is 1, a person"
            " (category_id)."
        )
    for index, entry in enumerate(content):
        if "keypoints" not in entry:
            raise PoseFileError(f"{path}: result {index} has no 'keypoints'.")
        named = entry.get(field) if field else own_name
        key = image_key(named)
        if key is None:
            raise PoseFileError(
                f"{path}: result {index}: '{field}' must name its image, but is {named!r:.40}."
            )
        if key not in images:
            images[key] = FileImage(key, is_named=field is not None)
        score = entry.get("score")
        where = f"result {index}"
        persons.append(FilePerson(key, entry["keypoints"], where, entry.get("keypoint_scores"), score, index))  # fmt: skip
    return FileContent("COCO keypoint results", persons, images, left_out=left_out)


def _person_categories(
    categories: list[dict[str, Any]], path: str | os.PathLike
) -> list[dict[str, Any]]:
    persons = [c for c in categories if str(c.get("name")).strip().casefold() in _PERSON_NAMES]
    if not persons and len(categories) == 1 and categories[0].get("keypoints"):
        return categories  # whatever it is called: the names of its parts decide
    if categories and not persons:
        names = ", ".join(sorted(str(category.get("name")) for category in categories)[:5])
        raise PoseFileError(f"{path}: has no category 'person', but {names}.")
    return persons


def _other_spelling(key: ImageKey | None, images: dict[ImageKey, FileImage]) -> ImageKey | None:
    """The key of an image for "7" in place of 7, and the other way round."""
    other = whole_number(key) if isinstance(key, str) else str(key)
    return other if other in images else None


def _part_names(names: Any, path: str | os.PathLike) -> tuple[str, ...] | None:
    if not names:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PoseFileError(f"{path}: 'keypoints' of the category must be the names of the parts.")
    return tuple(names)
