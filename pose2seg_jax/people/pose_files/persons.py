"""Lists of persons with 'keypoints': COCO results, MMPose, AlphaPose, Ultralytics, OpenPifPaf, demos of estimators.

They differ in what they call an image and a score. What there is decides, not which program wrote it.
"""

import os
from collections.abc import Container
from typing import Any

from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.people.pose_files import categories
from pose2seg_jax.people.pose_files import content as contents
from pose2seg_jax.people.pose_files.content import FileContent, FilePerson, PoseFileError, image_key

_IMAGE_NAMES = ("image_path", "file_name", "filename", "image_name", "image", "img_path", "img_name")  # fmt: skip
_SCORES = ("pose_score", "score", "bbox_score", "confidence")
_PART_SCORES = ("keypoint_scores", "keypoints_scores", "kp_score", "scores", "keypoint_confidence")


def read(
    content: list[dict[str, Any]], path: str | os.PathLike, own_name: str, names: Any = None
) -> FileContent:
    """Reads persons; those without an image are of the image that the file is named after.

    Args:
        content: the list.
        path: of the file.
        own_name: which image the file is named after.
        names: of the parts, where the file has them.
    """
    names = names or next((e["keypoint_names"] for e in content if "keypoint_names" in e), None)
    found = FileContent("persons", part_names=contents.part_names(names, path))
    entries = categories.of_persons(content, [], [], path)
    found.left_out["results of other categories (category_id)"] = len(content) - len(entries)
    keys = set().union(*entries)
    fields = [field for field in ("image_id", *_IMAGE_NAMES) if field in keys]
    known = Fields(keys)
    if not entries:
        found.add_image(own_name, is_named=False)
    for index, entry in enumerate(entries):
        where = f"result {index}"
        if "class" in keys and _is_other_class(entry):
            found.left_out["results of other classes"] += 1
            found.add_image(own_name, is_named=False)
            continue
        key = image_key(entry.get(fields[0])) if fields else own_name
        if key is None:
            raise PoseFileError(
                f"{path}: {where}: '{fields[0]}' must name its image, but is {entry.get(fields[0])!r:.40}."
            )
        if key not in found.images:
            name = next((entry[f] for f in fields[1:] if isinstance(entry.get(f), str)), None)
            found.add_image(key, name=name, is_named=bool(fields))
        add(found, key, entry, where, index, path, known)
    return found


class Fields:
    """Which of the fields that hold scores the persons of a file have: large files have many persons."""

    def __init__(self, keys: Container[str] | None = None):
        """Takes the fields of all persons together; None for all that there are."""
        self._scores = [name for name in _SCORES if keys is None or name in keys]
        self._part_scores = [name for name in _PART_SCORES if keys is None or name in keys]

    def score(self, entry: dict[str, Any]) -> Any:
        """Returns the score of a person, whatever it is called; None where there is none."""
        for name in self._scores:
            if entry.get(name) is not None:
                return entry[name]
        return None

    def part_scores(self, entry: dict[str, Any]) -> Any:
        """Returns the scores of the parts that stand apart from them; None where there are none."""
        for name in self._part_scores:
            if isinstance(entry.get(name), list):
                return entry[name]
        return None


def add(
    found: FileContent,
    key: contents.ImageKey,
    entry: Any,
    where: str,
    number: int,
    path: Any,
    known: Fields,
) -> None:
    """Adds a person.

    Args:
        found: where to.
        key: of the image.
        entry: an object with 'keypoints'.
        where: names the person in messages.
        number: the person's id.
        path: of the file.
        known: the fields that persons of the file have.

    Raises:
        PoseFileError: the entry is no such object.
    """
    if not isinstance(entry, dict) or "keypoints" not in entry:
        raise PoseFileError(f"{path}: {where} has no 'keypoints'.")
    keypoints, scores, labels = entry["keypoints"], known.part_scores(entry), entry.get("labels")
    if isinstance(labels, list) and isinstance(keypoints, list) and len(labels) == len(keypoints):
        try:  # Hugging Face's ViTPose lists the parts that it found
            keypoints = _by_label(keypoints, labels)
            scores = scores and _by_label(scores, labels)
        except (TypeError, ValueError):
            raise PoseFileError(f"{path}: {where}: 'labels' must number the parts.") from None
    found.persons.append(FilePerson(key, keypoints, where, scores, known.score(entry), number))


def _by_label(values: list[Any], labels: list[int]) -> list[Any]:
    """The values of COCO's parts in order, from those of the parts that the labels number; None for the others."""
    known = dict(zip(labels, values, strict=True))
    return [known.get(part) for part in range(NUM_PARTS)]


def _is_other_class(entry: dict[str, Any]) -> bool:
    """Whether Ultralytics found something else than a person."""
    if "class" not in entry:
        return False
    return str(entry.get("name", "person")).casefold() not in categories.PERSON_NAMES
