"""COCO JSON to validated person records, and the COCOHUMAN and COCOHUMAN-OC selections.

    python -m pose2seg_jax.people.coco person_keypoints_val2017.json

prints the counts of a file. No TensorFlow here.

Annotations are checked once, here. What cannot be understood (a keypoint list of the wrong length,
a duplicate id, an annotation of an unknown image) is an error that names the file, the id and the
field, because it means that the file is not what it claims to be. A single person that cannot be
used (an empty mask, a box without area) is skipped and counted, with its id, in `Dataset.skipped`.
"""

import argparse
import collections
import dataclasses
import json
import logging
import math
import os
import pathlib
import re
from typing import Any

import numpy as np
from etils import epath
from pycocotools import mask as mask_utils

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError, run_program
from pose2seg_jax.people import json_files
from pose2seg_jax.people.masks import check_size, encode_segmentation
from pose2seg_jax.people.parts import NUM_PARTS, PART_NAMES

# Annotations in the full COCO 2017 files, and COCOHUMAN in them (images, persons). The number of
# annotations tells a full file from a subset or a file of one's own.
FULL_FILES = {
    "person_keypoints_train2017.json": (262465, 56599, 149813),
    "person_keypoints_val2017.json": (11004, 2346, 6352),
}
OC_IOU = 0.5  # a pair of persons whose boxes overlap by more is COCOHUMAN-OC (paper, section 4.1)


class CocoError(UserError):
    """A COCO file that cannot be used; the message names the file, the id and what to do."""


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """One annotated person.

    Attributes:
        id: the annotation id.
        image_id: the image it belongs to.
        pose: (17, 3) float32, (x, y, v) in continuous image coordinates: COCO's integer pixel
            indices plus 0.5. v is 0 (not labelled; x and y are 0 too), 1 (hidden) or 2 (visible).
        bbox: (4,) float64, COCO's (x, y, width, height).
        area: the annotated area in pixels; that of the box where the file has none.
        segmentation: compressed RLE, or None where the file has no masks.
        is_crowd: whether the annotation covers a group.
    """

    id: int
    image_id: int
    pose: np.ndarray
    bbox: np.ndarray
    area: float
    segmentation: dict[str, Any] | None
    is_crowd: bool

    @property
    def mask_area(self) -> float:
        """The area of the mask in pixels; `area` where there is none. OCHuman's `area` is the box's."""
        if self.segmentation is None:
            return self.area
        return float(mask_utils.area(self.segmentation))

    @property
    def has_pose(self) -> bool:
        """Whether it belongs to COCOHUMAN: one person, with at least one labelled part."""
        return not self.is_crowd and bool(np.any(self.pose[:, 2] > 0))


@dataclasses.dataclass(frozen=True)
class Image:
    """One image of a COCO file and all of its persons."""

    id: int
    file_name: str
    height: int
    width: int
    split: str | None
    persons: tuple[Person, ...]

    @property
    def posed(self) -> tuple[Person, ...]:
        """Its COCOHUMAN persons."""
        return tuple(person for person in self.persons if person.has_pose)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A validated COCO file.

    Attributes:
        path: the file.
        images: all of its images, also those without persons, in the order of their ids.
        skipped: reason -> ids of the annotations that were left out for it.
        name: of its posed persons, for tables.
    """

    path: epath.Path
    images: tuple[Image, ...]
    skipped: dict[str, list[int]]
    name: str = "COCOHUMAN"

    @property
    def posed_images(self) -> tuple[Image, ...]:
        """The images of COCOHUMAN: those with at least one posed person."""
        return tuple(image for image in self.images if image.posed)

    def persons(self, *, split: str | None = None) -> list[Person]:
        """The COCOHUMAN persons, of one `split` where the file's images name one."""
        images = [image for image in self.images if split is None or image.split == split]
        return [person for image in images for person in image.posed]


def read(path: str | os.PathLike, content: Any = None) -> Dataset:
    """Reads and validates a COCO person keypoints file.

    Args:
        path: the file.
        content: what is in it, where it has been loaded already.

    Raises:
        UserError: the file is missing, is no COCO file, or contradicts itself.
    """
    file = paths.resolve(path)
    content = _check_lists(path, json_files.load(path) if content is None else content)
    categories = content["categories"]
    person_ids = [entry.get("id") for entry in categories if entry.get("name") == "person"]
    if categories and not person_ids:
        names = sorted(str(entry.get("name")) for entry in categories)
        raise CocoError(f"{path}: has no category 'person', but {names}.")
    entries = [
        entry
        for entry in content["annotations"]
        if not categories or entry.get("category_id") in person_ids
    ]
    _check_full_counts(path, entries)
    image_entries = _unique(path, "images", content["images"])
    for image_id, entry in image_entries.items():
        where = f"{path}: image {image_id}"
        size = {field: whole(entry.get(field)) for field in ("height", "width")}
        image_entries[image_id] = entry = {**entry, **size}
        for field, kind in (("file_name", str), ("height", int), ("width", int)):
            if not isinstance(entry.get(field), kind):
                what = "a name" if kind is str else "a whole number"
                raise CocoError(f"{where}: '{field}' must be {what}, not {entry.get(field)!r}.")
        if min(entry["height"], entry["width"]) < 1:
            raise CocoError(f"{where}: size {entry['width']}x{entry['height']} is no image size.")
        try:
            check_size(entry["height"], entry["width"])
        except ValueError as error:
            raise CocoError(f"{where}: is {error}.") from None
        below = pathlib.PurePosixPath(entry["file_name"].replace("\\", "/"))
        if below.is_absolute() or ".." in below.parts or re.match("[A-Za-z]:", str(below)):
            raise CocoError(
                f"{where}: 'file_name' {entry['file_name']!r} leads out of the image directory; it must be"
                " a path below it."
            )

    persons: dict[int, list[Person]] = collections.defaultdict(list)
    skipped: dict[str, list[int]] = collections.defaultdict(list)
    for person_id, entry in _unique(path, "annotations", entries).items():
        where = f"{path}: annotation {person_id}"
        belongs_to = whole(entry.get("image_id"))
        if not isinstance(belongs_to, int) or belongs_to not in image_entries:
            raise CocoError(f"{where}: its image_id {belongs_to!r} is not in 'images'.")
        image = image_entries[belongs_to]
        try:
            person = _person(entry, image["height"], image["width"], where)
        except _UnusableError as error:
            skipped[str(error)].append(person_id)
            continue
        persons[person.image_id].append(person)
    for reason, ids in skipped.items():
        logging.warning("%s: skipped %d annotations: %s: %s", path, len(ids), reason, _some(ids))

    images = tuple(
        Image(
            id=entry["id"],
            file_name=entry["file_name"],
            height=entry["height"],
            width=entry["width"],
            split=entry.get("split"),
            persons=tuple(sorted(persons[entry["id"]], key=lambda person: person.id)),
        )
        for _, entry in sorted(image_entries.items())
    )
    information = content.get("info")
    name = information.get("persons") if isinstance(information, dict) else None
    return Dataset(file, images, dict(skipped), str(name or Dataset.name))


def mask_or_box(image: Image, person: Person) -> dict[str, Any]:
    """Returns the mask of a person as compressed RLE; the box, as far as it is in the image, where there is no mask."""
    if person.segmentation is not None:
        return person.segmentation
    x, y, width, height = person.bbox.tolist()
    left, right = np.clip([x, x + width], 0, image.width).tolist()
    top, bottom = np.clip([y, y + height], 0, image.height).tolist()
    corners = [left, top, right, top, right, bottom, left, bottom]
    return encode_segmentation([corners], image.height, image.width)


def with_listed_images(dataset: Dataset, path: str | os.PathLike, split: str) -> Dataset:
    """Returns the images of a file that a list names.

    Args:
        dataset: the file.
        path: JSON, either a list of image ids, or an object with a list for each split.
        split: whose list, of an object.

    Raises:
        UserError: it is no such JSON, or names images that the file does not hold.
    """
    content = json_files.load(path)
    ids = content.get(split) if isinstance(content, dict) else content
    if not isinstance(ids, list) or not all(isinstance(i, int) for i in ids):
        raise CocoError(
            f"{path}: is no list of image ids, and no object with such a list '{split}'."
        )
    images = tuple(image for image in dataset.images if image.id in set(ids))
    missing = sorted(set(ids) - {image.id for image in images})
    if missing:
        raise CocoError(
            f"{path}: names {len(missing)} images that {dataset.path} does not hold: {_some(missing)}."
        )
    return dataclasses.replace(dataset, images=images)


def occluded_pairs(image: Image, iou: float = OC_IOU) -> tuple[Person, ...]:
    """The posed persons of an image whose box overlaps another posed person's by more than `iou`."""
    overlaps = zip(image.posed, largest_overlaps(image), strict=True)
    return tuple(person for person, overlap in overlaps if overlap > iou)


def largest_overlaps(image: Image) -> np.ndarray:
    """Returns for each posed person of an image the largest IoU of its box with that of another; 0 for one who is alone."""
    posed = image.posed
    if len(posed) < 2:
        return np.zeros(len(posed))
    boxes = np.stack([person.bbox for person in posed])
    overlaps = mask_utils.iou(boxes, boxes, np.zeros(len(posed), np.uint8))
    np.fill_diagonal(overlaps, 0)
    return overlaps.max(axis=1)


def counts(dataset: Dataset) -> dict[str, int]:
    """The sizes of COCOHUMAN and COCOHUMAN-OC in a file."""
    members = [pair for image in dataset.images if (pair := occluded_pairs(image))]
    return {
        "images": len(dataset.posed_images),
        "persons": len(dataset.persons()),
        "oc_images": len(members),
        "oc_persons": sum(map(len, members)),
    }


def parse_keypoints(values: Any, where: str) -> np.ndarray:
    """COCO's flat keypoint list as a pose (17, 3) in continuous coordinates.

    COCO keypoints are integer pixel indices: 0.5 is added here, once. Parts with v = 0 become
    (0, 0, 0).

    Raises:
        CocoError: not 17 finite triples.
    """
    try:
        pose = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise CocoError(f"{where}: 'keypoints' must be a list of numbers: {error}.") from None
    if pose.size != 3 * NUM_PARTS or pose.ndim != 1:
        raise CocoError(
            f"{where}: 'keypoints' must hold {3 * NUM_PARTS} numbers (x, y, v of {NUM_PARTS} parts),"
            f" but holds {pose.size}."
        )
    if not np.all(np.isfinite(pose)):
        raise CocoError(f"{where}: 'keypoints' holds values that are not finite numbers.")
    pose = pose.reshape(NUM_PARTS, 3)
    pose[:, :2] += 0.5
    pose[pose[:, 2] <= 0] = 0
    return pose


def format_keypoints(pose: np.ndarray) -> list[float]:
    """A pose (17, 3) as COCO writes it: pixel indices, in hundredths; zeros for a part of which nothing is known."""
    known = np.any(pose != 0, axis=-1, keepdims=True)
    written = np.where(known, pose - [0.5, 0.5, 0], 0).astype(np.float64)
    return np.round(written, 2).ravel().tolist()


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that a float holds."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


class _UnusableError(ValueError):
    """Why one annotation is left out."""


def _person(entry: dict[str, Any], height: int, width: int, where: str) -> Person:
    is_crowd = bool(entry.get("iscrowd", 0))
    pose = parse_keypoints(entry.get("keypoints", [0] * 3 * NUM_PARTS), where)
    labelled = int(np.sum(pose[:, 2] > 0))
    if entry.get("num_keypoints", labelled) != labelled:
        raise CocoError(
            f"{where}: 'num_keypoints' is {entry['num_keypoints']}, but {labelled} parts have v > 0."
        )
    if not np.all(np.isin(pose[:, 2], (0, 1, 2))):
        raise CocoError(f"{where}: visibility v must be 0, 1 or 2.")
    # COCO writes an index equal to the size now and then; farther out is another image's pose.
    outside = (pose[:, 2] > 0) & ~np.all(
        (pose[:, :2] >= -1) & (pose[:, :2] <= (width + 1.5, height + 1.5)), axis=-1
    )
    if np.any(outside):
        part = PART_NAMES[int(np.argmax(outside))]
        raise _UnusableError(f"keypoints outside the image ({part} or others)")
    try:
        bbox = np.asarray(entry.get("bbox"), np.float64)
    except (TypeError, ValueError, OverflowError):
        bbox = np.zeros(0)
    if bbox.shape != (4,):
        raise CocoError(f"{where}: 'bbox' must be [x, y, width, height], not {entry.get('bbox')}.")
    if not np.all(np.isfinite(bbox)) or np.any(bbox[2:] <= 0):
        raise _UnusableError("a box without area")
    if np.any(bbox[:2] >= (width, height)) or np.any(bbox[:2] + bbox[2:] <= 0):
        raise _UnusableError("a box outside the image")
    segmentation = None
    if "segmentation" in entry:
        try:
            segmentation = encode_segmentation(entry["segmentation"], height, width)
        except ValueError as error:
            raise _UnusableError(f"segmentation: {error}") from None
        if mask_utils.area(segmentation) == 0:
            raise _UnusableError("segmentation: empty mask")
    area = entry.get("area", bbox[2] * bbox[3])
    if not is_number(area) or area < 0:
        raise CocoError(f"{where}: 'area' must be a number of pixels, not {area!r}.")
    return Person(
        entry["id"], whole(entry["image_id"]), pose, bbox, float(area), segmentation, is_crowd
    )


def _check_lists(path: str | os.PathLike, content: Any) -> dict[str, Any]:
    if isinstance(content, dict):
        content = {"categories": [], **content}
    for field in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(field), list):
            raise CocoError(f"{path}: is no COCO annotation file: it has no list '{field}'.")
        for index, entry in enumerate(content[field]):
            if not isinstance(entry, dict):
                raise CocoError(
                    f"{path}: {field}[{index}] must be an object, not {type(entry).__name__}."
                )
    return content


def _unique(
    path: str | os.PathLike, field: str, entries: list[dict[str, Any]]
) -> dict[int, dict[str, Any]]:
    """The entries of a list by their ids."""
    by_id: dict[int, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        number = whole(entry.get("id"))
        if not isinstance(number, int):
            raise CocoError(
                f"{path}: {field}[{index}] must have a whole number as 'id', not {number!r}."
            )
        if number in by_id:
            raise CocoError(f"{path}: the id {number} stands twice in '{field}'.")
        by_id[number] = {**entry, "id": number}
    return by_id


def whole(value: Any) -> Any:
    """Returns 120.0 as 120, as pandas and JavaScript write whole numbers; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_full_counts(path: str | os.PathLike, entries: list[dict[str, Any]]) -> None:
    full = FULL_FILES.get(os.path.basename(path))
    if full is None or len(entries) != full[0]:
        return
    posed = [e for e in entries if not e.get("iscrowd") and e.get("num_keypoints")]
    found = len({str(entry.get("image_id")) for entry in posed}), len(posed)
    if found != full[1:]:
        raise CocoError(
            f"{path}: the full COCO 2017 file has {full[1]} images and {full[2]} persons of"
            f" COCOHUMAN, but this one {found[0]} and {found[1]}; get the file again from"
            " http://images.cocodataset.org/annotations/annotations_trainval2017.zip."
        )


def _some(ids: list[int], most: int = 10) -> str:
    return ", ".join(map(str, ids[:most])) + (", ..." if len(ids) > most else "")


def main() -> None:
    """Prints the counts of a COCO file, the last line as JSON."""
    parser = argparse.ArgumentParser(description="Counts the COCOHUMAN persons of a COCO file.")
    parser.add_argument("annotations", type=pathlib.Path)
    dataset = read(parser.parse_args().annotations)
    sizes = counts(dataset)
    print(f"{dataset.path}: {len(dataset.images)} images")
    for reason, ids in dataset.skipped.items():
        print(f"skipped {len(ids)}: {reason}: {_some(ids)}")
    print(f"COCOHUMAN: {sizes['images']} images, {sizes['persons']} persons")
    print(f"COCOHUMAN-OC: {sizes['oc_images']} images, {sizes['oc_persons']} persons")
    print(json.dumps(sizes))


if __name__ == "__main__":
    run_program(main)
