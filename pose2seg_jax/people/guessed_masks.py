"""More persons to train on: those with an annotated pose and box, whose masks a trained network guesses.

    python main.py --mode=predict --image=COCO/train2017 --poses=POSES --output=GUESSES --config.prediction.flip=true
    python -m pose2seg_jax.people.guessed_masks --coco_dir=COCO --poses=POSES --results=GUESSES/results.json --output=DIR

POSES is a COCO file of people without masks in the images of COCO/train2017. DIR is in COCO's layout: the training split with
these persons added, the validation split as it is, and links to the images. Train on it with --config.dataset.coco_dir=DIR.

The annotated box says how far a person reaches. A guess is cut to it, loses what belongs to a person whose mask is
annotated, and counts only where it then fills the box.
"""

import argparse
import collections
import json
import logging
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from pose2seg_jax import paths
from pose2seg_jax.errors import run_program
from pose2seg_jax.people import coco, coco_layout, json_files
from pose2seg_jax.people.masks import encode_segmentation
from pose2seg_jax.people.parts import PERSON_CATEGORY

SAME_PERSON_IOU = 0.9  # of the boxes; two files may know one person by two ids
EXTENT_IOU = 0.75  # a guess counts where its box and the annotated one agree by more
MASK_SCORE = 0.65  # and where the network expects at least this IoU of it


class Guesses(NamedTuple):
    """Persons with guessed masks.

    Attributes:
        annotations: of COCO's form, each with the mask as RLE.
        left_out: reason -> number of persons without a guess that counts.
    """

    annotations: list[dict[str, Any]]
    left_out: dict[str, int]


def guesses(
    annotated: coco.Dataset, posed: coco.Dataset, results: Sequence[Mapping[str, Any]]
) -> Guesses:
    """Returns the persons of `posed` without an annotated mask whose guessed mask can be trusted.

    Args:
        annotated: the split, with masks.
        posed: poses and boxes of more people in its images.
        results: COCO results with 'keypoints' and 'mask_score', of the poses of `posed`.

    Raises:
        CocoError: an image has another size, or a mask cannot be read; the message names its id.
    """
    known = {image.id: image for image in annotated.images}
    found = {
        (result["image_id"], _rounded(result["keypoints"])): result
        for result in results
        if "keypoints" in result and "mask_score" in result
    }
    made: list[dict[str, Any]] = []
    left_out: collections.Counter[str] = collections.Counter()
    for image in posed.images:
        ours = known.get(image.id)
        if ours is not None and (ours.height, ours.width) != (image.height, image.width):
            raise coco.CocoError(
                f"{posed.path}: image {image.id} is {image.width}x{image.height}, but {ours.width}x{ours.height} in"
                f" {annotated.path}."
            )
        persons = ours.persons if ours is not None else ()
        for person in image.posed:
            if _is_among(person, persons):
                left_out["mask is annotated"] += 1
                continue
            result = found.get((image.id, _rounded(coco.format_keypoints(person.pose))))
            if result is None:
                left_out["no result"] += 1
                continue
            mask = _trusted_mask(image, person, result, persons)
            if mask is None:
                left_out["guess does not fill the box, or is not sure"] += 1
                continue
            made.append(_annotation(person, mask))
    return Guesses(made, dict(left_out))


def write(
    coco_dir: pathlib.Path, poses: pathlib.Path, results: pathlib.Path, output: pathlib.Path
) -> Guesses:
    """Writes a directory in COCO's layout whose training split holds the guessed masks too.

    Returns:
        What was added.

    Raises:
        UserError: a file cannot be used, or the directory is there already.
    """
    sources = {split: coco_layout.annotation_file(coco_dir, split) for split in coco_layout.SPLITS}
    content, more = json_files.load(sources["train"]), json_files.load(poses)
    entries = json_files.load(results)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise coco.CocoError(f"{results}: is no COCO results file; it must be a list of objects.")
    made = guesses(coco.read(sources["train"], content), coco.read(poses, more), entries)
    if not made.annotations:
        raise coco.CocoError(
            f"{results}: holds no mask for a person of {poses} that can be used: {made.left_out}."
        )
    target = paths.local(output, "--output")
    if target.exists():
        raise coco.CocoError(f"{output}: is there already; name another --output.")
    there = {image["id"] for image in content["images"]}
    used = {entry["image_id"] for entry in made.annotations} - there
    content["images"] += [image for image in more["images"] if image["id"] in used]
    content["annotations"] += made.annotations
    coco.read(sources["train"], content)  # as training will
    (target / "annotations").mkdir(parents=True)
    for split, folder in coco_layout.SPLITS.items():
        images = paths.local(coco_layout.image_directory(coco_dir, split), "--coco_dir")
        (target / folder).symlink_to(images.resolve(), target_is_directory=True)
        data = json.dumps(content) if split == "train" else sources[split].read_bytes()
        paths.write_atomically(target / "annotations" / sources[split].name, data)
    return made


def _rounded(keypoints: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 1) for value in keypoints)


def _is_among(person: coco.Person, others: Sequence[coco.Person]) -> bool:
    """Whether a person is one of those with masks, by id or by box."""
    others = [other for other in others if not other.is_crowd]
    if not others:
        return False
    boxes = np.stack([other.bbox for other in others])
    overlaps = mask_utils.iou(person.bbox[None], boxes, [0] * len(boxes))
    by_id = any(other.id == person.id for other in others)
    return by_id or bool(overlaps.max() > SAME_PERSON_IOU)


def _trusted_mask(
    image: coco.Image,
    person: coco.Person,
    result: Mapping[str, Any],
    others: Sequence[coco.Person],
) -> dict[str, Any] | None:
    """The guess, cut to the box and without the other persons' pixels; None where it cannot be trusted."""
    if result["mask_score"] < MASK_SCORE:
        return None
    try:
        rle = encode_segmentation(
            result["segmentation"], image.height, image.width, may_be_empty=True
        )
    except ValueError as error:
        raise coco.CocoError(
            f"the result of person {person.id} in image {image.id}: 'segmentation': {error}."
        ) from None
    guess = mask_utils.decode(rle)
    x, y, width, height = person.bbox
    cut = np.zeros_like(guess)
    rows = slice(max(math.floor(y), 0), math.ceil(y + height))
    columns = slice(max(math.floor(x), 0), math.ceil(x + width))
    cut[rows, columns] = guess[rows, columns]
    if others:
        taken = mask_utils.merge([coco.mask_or_box(image, other) for other in others])
        cut[mask_utils.decode(taken) > 0] = 0
    mask = mask_utils.encode(np.asfortranarray(cut))
    filled = mask_utils.iou(mask_utils.toBbox(mask)[None], person.bbox[None], [0])[0, 0]
    return mask if filled > EXTENT_IOU else None


def _annotation(person: coco.Person, mask: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": person.id,
        "image_id": person.image_id,
        "category_id": PERSON_CATEGORY,
        "iscrowd": 0,
        "keypoints": coco.format_keypoints(person.pose),
        "num_keypoints": int(np.sum(person.pose[:, 2] > 0)),
        "segmentation": {"size": mask["size"], "counts": mask["counts"].decode()},
        "area": float(mask_utils.area(mask)),
        "bbox": mask_utils.toBbox(mask).tolist(),
    }


def main() -> None:
    """Writes the directory and says what was added."""
    parser = argparse.ArgumentParser(
        prog="python -m pose2seg_jax.people.guessed_masks", description=__doc__.splitlines()[0]
    )
    for name, what in (
        ("coco_dir", "the COCO-layout directory"),
        ("poses", "a COCO file of poses and boxes in its training images"),
        ("results", "results.json that --mode=predict wrote for these poses"),
        ("output", "directory that does not exist yet"),
    ):
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True, help=what)
    options = parser.parse_args()
    made = write(options.coco_dir, options.poses, options.results, options.output)
    print(f"{len(made.annotations)} persons with guessed masks added in {options.output}")
    for reason, count in sorted(made.left_out.items()):
        print(f"left out: {reason}: {count}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    run_program(main)
