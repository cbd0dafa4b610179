"""COCO annotations, as COCO and labelling tools write them."""

import os
from typing import Any

from pose2seg_jax.people.pose_files import categories, persons
from pose2seg_jax.people.pose_files import content as contents
from pose2seg_jax.people.pose_files.content import FileContent, ImageKey, PoseFileError, image_key


def annotations(content: dict[str, Any], path: str | os.PathLike) -> FileContent:
    """Reads COCO annotations. A prediction needs keypoints, and which image they are of; nothing else is looked at."""
    for field in ("images", "annotations", "categories"):
        entries = content.get(field, [])
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise PoseFileError(f"{path}: '{field}' must be a list of objects.")
    found = FileContent("COCO annotations")
    listed = content.get("categories", [])
    persons_of = categories.person_categories(listed, path)
    entries = categories.of_persons(content["annotations"], listed, persons_of, path)
    found.left_out["annotations of other categories"] = len(content["annotations"]) - len(entries)
    if entries and not any("keypoints" in entry for entry in entries):
        raise PoseFileError(
            f"{path}: no annotation has 'keypoints'; is this COCO's instances file? Poses are in person_keypoints."
        )
    names = next((c["keypoints"] for c in persons_of if c.get("keypoints")), None)
    found.part_names = contents.part_names(names, path)
    _add_images(found, content.get("images", []), path)
    by_name: dict[Any, ImageKey] = {image.name: key for key, image in found.images.items()}
    known = persons.Fields()
    for index, entry in enumerate(entries):
        where = f"annotation {entry.get('id', f'number {index}')}"
        if categories.is_crowd(entry.get("iscrowd", 0)):
            found.left_out["crowds (iscrowd)"] += 1
            continue
        key = image_key(entry.get("image_id", entry.get("file_name")))
        if key is not None and "images" not in content:
            found.add_image(key, name=contents.text(entry.get("file_name")))
        if key not in found.images:
            key = _other_spelling(key) if by_name.get(key) is None else by_name[key]
        if key is None or key not in found.images:
            raise PoseFileError(
                f"{path}: {where}: its image_id {entry.get('image_id')!r:.40} is not in 'images'."
            )
        found.add_person(
            key, entry.get("keypoints"), where, part_scores=known.part_scores(entry),
            score=known.score(entry), id=entry.get("id"),
        )  # fmt: skip
    return found


def _add_images(found: FileContent, entries: list[dict[str, Any]], path: Any) -> None:
    for index, entry in enumerate(entries):
        key = image_key(entry.get("id"))
        if key is None:
            raise PoseFileError(f"{path}: images[{index}]: 'id' must be a number or a text.")
        size = contents.whole_size(entry.get("height"), entry.get("width"))
        image = contents.FileImage(key, contents.text(entry.get("file_name")), size)
        if found.images.setdefault(key, image) != image:
            raise PoseFileError(f"{path}: the id {key} stands twice in 'images'.")


def _other_spelling(key: ImageKey | None) -> ImageKey | None:
    """7 for "7", and the other way round."""
    return contents.whole_number(key) if isinstance(key, str) else str(key)
