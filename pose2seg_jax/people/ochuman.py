"""OCHuman as a COCO-layout directory, which evaluation and prediction read like any other.

    python -m pose2seg_jax.people.ochuman --annotations=ochuman.json --images=IMAGES --subset=val --output=DIR
    python main.py --mode=eval --weights=FILE --config.dataset.coco_dir=DIR

Reads the dataset's own `ochuman.json`, and its COCO export
(`ochuman_coco_format_val_range_0.00_1.00.json`). Only persons with both a pose and a mask count,
as in the authors' evaluation. No TensorFlow here.
"""

import argparse
import dataclasses
import json
import logging
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from pose2seg_jax import paths
from pose2seg_jax.errors import run_program
from pose2seg_jax.people import coco, json_files, masks
from pose2seg_jax.people.masks import check_size
from pose2seg_jax.people.parts import PART_NAMES, PERSON_CATEGORY

# Of the images with persons that count, in the order of their ids, the first ones are val.
_VAL_IMAGES = 2500
_MADE_BY = "pose2seg_jax.people.ochuman"  # what a file says that may be written again
_FULL = (5081, 4731, 8110)  # all images, and images and persons that count
# Theirs: 0 missing, 1 visible, 2 hidden by the person itself, 3 by others. COCO's, as in the export.
VISIBILITY = {0: 0, 1: 2, 2: 2, 3: 1}
_AREA_WARNING = (
    "%s: 'area' is that of the box, as in the authors' export, not of the mask: AP-M and AP-L sort"
    " persons by the area of their boxes. Compare them with figures of OCHuman only."
)


def convert(
    content: Any, path: str | os.PathLike, subset: str, iou_range: tuple[float, float]
) -> Any:
    """The content of `ochuman.json` as that of a COCO annotation file.

    Args:
        content: of the file.
        path: of the file, for messages.
        subset: "all", "val" (the first 2,500 images with persons that count) or "test" (the others).
        iou_range: keeps persons whose largest box IoU with another is in [low, high).

    Returns:
        A COCO annotation file, numbered as the authors' export of the same persons: poses and masks
        predicted for that fit. `area` is that of the box.

    Raises:
        CocoError: the content is no OCHuman, or contradicts itself.
    """
    images = content.get("images") if isinstance(content, dict) else None
    names = content.get("keypoint_names") if isinstance(content, dict) else None
    if (
        not isinstance(images, list)
        or not isinstance(names, list)
        or not all(name in names for name in PART_NAMES)
    ):
        raise coco.CocoError(
            f"{path}: is neither OCHuman's own file ('images', and 'keypoint_names' with COCO's parts)"
            " nor a COCO annotation file ('categories')."
        )
    order = [names.index(name) for name in PART_NAMES]
    counted = []
    for image in images:
        _check_image(path, image)
        persons = [p for p in image["annotations"] if p.get("keypoints") and p.get("segms")]
        if persons:
            counted.append((image, persons))
    _check_full_counts(path, images, counted)
    lacking = sum(len(image["annotations"]) for image in images) - sum(len(p) for _, p in counted)
    if lacking:
        logging.warning("%s: %d persons have no pose or no mask; left out.", path, lacking)
    counted.sort(key=lambda pair: pair[0]["image_id"])
    first, last = {"all": (0, None), "val": (0, _VAL_IMAGES), "test": (_VAL_IMAGES, None)}[subset]
    annotations: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    for image, persons in counted[first:last]:
        found = list(_annotations(path, image, persons, order, iou_range))
        if not found:
            continue
        kept.append({k: image[k] for k in ("file_name", "width", "height")} | {"id": len(kept) + 1})
        for annotation in found:
            annotation |= {"image_id": len(kept), "id": len(annotations) + 1}
            annotations.append(annotation)
    low, high = iou_range
    return {
        "info": {"persons": f"OCHuman {subset}, max IoU {low:g} to {high:g}"},
        "images": kept,
        "annotations": annotations,
        "categories": [{"id": PERSON_CATEGORY, "name": "person", "keypoints": list(PART_NAMES)}],
    }


def _check_image(path: str | os.PathLike, image: Any) -> None:
    fields = {"image_id": str, "file_name": str, "width": int, "height": int, "annotations": list}
    for field, kind in fields.items():
        if not isinstance(image, dict) or not isinstance(image.get(field), kind):
            name = image.get("image_id") if isinstance(image, dict) else image
            raise coco.CocoError(f"{path}: image {name!r:.40}: has no valid '{field}'.")
    if not image["image_id"].isdigit():
        raise coco.CocoError(f"{path}: image {image['image_id']!r}: 'image_id' must be a number.")
    try:
        check_size(image["height"], image["width"])
    except ValueError as error:
        raise coco.CocoError(f"{path}: image {image['image_id']}: is {error}.") from None
    for index, person in enumerate(image["annotations"]):
        if not isinstance(person, dict):
            raise coco.CocoError(f"{path}: image {image['image_id']}: person {index} is no object.")


def _check_full_counts(path: str | os.PathLike, images: list, counted: list) -> None:
    found = len(images), len(counted), sum(len(persons) for _, persons in counted)
    if found[0] == _FULL[0] and found != _FULL:
        raise coco.CocoError(
            f"{path}: the full OCHuman has {_FULL[1]} images and {_FULL[2]} persons with pose and mask,"
            f" but this file {found[1]} and {found[2]}; get it again."
        )


def _annotations(
    path: str | os.PathLike,
    image: dict[str, Any],
    persons: list[dict[str, Any]],
    order: list[int],
    iou_range: tuple[float, float],
) -> Iterator[dict[str, Any]]:
    for index, person in enumerate(persons):
        where = f"{path}: image {image['image_id']}, person {index} with pose and mask"
        box: Any = person.get("bbox")
        overlap: Any = person.get("max_iou")
        if not (isinstance(box, list) and len(box) == 4 and all(map(coco.is_number, box))):
            raise coco.CocoError(f"{where}: 'bbox' must be [x1, y1, x2, y2], not {box!r:.40}.")
        if not coco.is_number(overlap):
            raise coco.CocoError(f"{where}: 'max_iou' must be a number, not {overlap!r:.40}.")
        if not iou_range[0] <= overlap < iou_range[1]:
            continue
        keypoints = _keypoints(person["keypoints"], order, where)
        width, height = box[2] - box[0], box[3] - box[1]
        yield {
            "category_id": PERSON_CATEGORY,
            "iscrowd": 0,
            "bbox": [box[0], box[1], width, height],
            "area": width * height,
            "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
            "keypoints": keypoints,
            "segmentation": _segmentation(person["segms"], image, where),
        }


def _keypoints(values: Any, order: list[int], where: str) -> list[float]:
    try:
        triples = np.asarray(values, np.float64).reshape(-1, 3)[order]
        visible = [VISIBILITY[v] for v in triples[:, 2].tolist()]
    except (TypeError, ValueError, IndexError, OverflowError):
        raise coco.CocoError(f"{where}: 'keypoints' must hold x, y, v of each part.") from None
    except KeyError as error:
        raise coco.CocoError(f"{where}: visibility {error} must be 0, 1, 2 or 3.") from None
    triples[:, 2] = visible
    triples[triples[:, 2] == 0] = 0
    return triples.ravel().tolist()


def _segmentation(segms: Any, image: dict[str, Any], where: str) -> dict[str, Any]:
    """Outer polygons without the inner ones, as RLE; those of fewer than three points are nothing.

    Without any polygon the mask is empty, as in the authors' code; `coco.read` skips and names it.
    """
    height, width = image["height"], image["width"]
    try:
        if (segms["height"], segms["width"]) != (height, width):
            raise ValueError(f"is of an image of {segms['width']}x{segms['height']}")
        outer, inner = (
            mask_utils.decode(masks.encode_segmentation(polygons, height, width))
            if (polygons := [p for p in segms[kind] if len(p) >= 6])
            else np.zeros((height, width), np.uint8)
            for kind in ("outer", "inner")
        )
        mask = outer * (1 - inner)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise coco.CocoError(
            f"{where}: 'segms' must hold polygons 'outer' and 'inner' and the image's 'height' and"
            f" 'width' ({error})."
        ) from None
    rle = mask_utils.encode(np.asfortranarray(mask))
    return {"size": [height, width], "counts": rle["counts"].decode()}


def write(
    annotations: pathlib.Path,
    images: pathlib.Path,
    output: pathlib.Path,
    subset: str = "all",
    iou_range: tuple[float, float] = (0.0, 1.0),
) -> coco.Dataset:
    """Writes a directory in COCO's layout, with a link to the images.

    Returns:
        What was written.

    Raises:
        CocoError: the annotations cannot be used, or images are missing.
    """
    annotations = paths.local(annotations, "--annotations")
    images, output = paths.local(images, "--images"), paths.local(output, "--output")
    content = json_files.load(annotations)
    if isinstance(content, dict) and "categories" in content:  # the export: as it is
        if (subset, iou_range) != ("all", (0.0, 1.0)):
            raise coco.CocoError(
                f"{annotations}: is an export of one subset already; leave out --subset and --iou_range."
            )
        content["info"] = {"persons": f"OCHuman, {annotations.stem}"}
    else:
        content = convert(content, annotations, subset, iou_range)
    dataset = coco.read(annotations, content)
    missing = [i.file_name for i in dataset.posed_images if not (images / i.file_name).is_file()]
    if missing or not dataset.posed_images:
        what = f"{len(missing)} images, such as {missing[0]}" if missing else "nobody in the subset"
        raise coco.CocoError(f"{images}: does not fit {annotations}: {what} missing.")
    target = output / "annotations" / "person_keypoints_val2017.json"
    link = output / "val2017"
    there = [path for path in (target, link) if path.exists() or path.is_symlink()]
    free = link.is_symlink() or not link.exists()
    if there and not (free and _is_ours(target)):
        raise coco.CocoError(
            f"{there[0]}: is other data, which would be overwritten; name another --output."
        )
    content["info"]["made_by"] = _MADE_BY
    paths.make_directory(target.parent, "--output")
    paths.write_atomically(target, json.dumps(content))
    link.unlink(missing_ok=True)
    link.symlink_to(images.resolve(), target_is_directory=True)
    logging.warning(_AREA_WARNING, target)
    return dataclasses.replace(dataset, path=paths.resolve(target))


def _is_ours(target: pathlib.Path) -> bool:
    """Whether a file was written here, and is no link to one that somebody else owns."""
    if target.is_symlink() or not target.is_file():
        return False
    try:
        content = json_files.load(target)
    except json_files.JsonError:
        return False
    information = content.get("info") if isinstance(content, dict) else None
    return isinstance(information, dict) and information.get("made_by") == _MADE_BY


def main() -> None:
    """Writes a subset and prints its size."""
    parser = argparse.ArgumentParser(description="Writes OCHuman as a COCO-layout directory.")
    parser.add_argument("--annotations", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--subset", choices=["all", "val", "test"], default="all")
    parser.add_argument(
        "--iou_range", type=float, nargs=2, default=[0.0, 1.0], metavar=("LOW", "HIGH"),
        help="persons whose largest box IoU is in [LOW, HIGH); moderate .5 .75, hard .75 1",
    )  # fmt: skip
    options = parser.parse_args()
    low, high = options.iou_range
    dataset = write(
        options.annotations, options.images, options.output, options.subset, (low, high)
    )
    print(
        f"{len(dataset.posed_images)} images, {len(dataset.persons())} persons in {options.output}"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    run_program(main)
