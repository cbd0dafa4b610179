"""Results files: writing our own, and scoring those of other methods under the same protocol."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from pose2seg_jax import paths
from pose2seg_jax.evaluation.coco_protocol import Evaluation, evaluate_results
from pose2seg_jax.people import coco, json_files, masks
from pose2seg_jax.people.parts import PERSON_CATEGORY
from pose2seg_jax.people.pose_files import matching
from pose2seg_jax.people.pose_files.content import FileImage, ImageKey, image_key


def save_results(path: str | os.PathLike, results: Sequence[Mapping[str, Any]]) -> None:
    """Writes a COCO results JSON that pycocotools loads."""
    paths.write_atomically(path, json.dumps(list(results)))


def evaluate_file(dataset: coco.Dataset, results_file: str | os.PathLike) -> Evaluation:
    """Scores another method's COCO segmentation results under the same protocol.

    Args:
        dataset: the annotations.
        results_file: the results.

    Raises:
        CocoError: the file holds no such results, or results of other images.
    """
    results = _check_results(json_files.load(results_file), results_file)
    keys = [image_key(entry["image_id"]) for entry in results]
    named = {key: FileImage(key) for key in keys if key is not None}
    known = match_images(results_file, named, dataset)
    images = {image.id: image for image in dataset.images}
    persons: list[dict[str, Any]] = []
    for index, (key, entry) in enumerate(zip(keys, results, strict=True)):
        if entry["category_id"] != PERSON_CATEGORY:
            continue
        if key is None:
            raise coco.CocoError(
                f"{results_file}: result {index}: 'image_id' is {entry['image_id']!r:.40}."
            )
        image = images[known[key]]
        try:
            mask = masks.encode_segmentation(
                entry["segmentation"], image.height, image.width, may_be_empty=True
            )
        except ValueError as error:
            raise coco.CocoError(
                f"{results_file}: result {index}: 'segmentation': {error}; image {image.id} is"
                f" {image.width}x{image.height}."
            ) from None
        persons.append({**entry, "image_id": image.id, "segmentation": mask})
    twice = len(persons) - len({(p["image_id"], p["segmentation"]["counts"]) for p in persons})
    if twice:
        logging.warning(
            "%s: masks that the file holds twice count as false: %d.", results_file, twice
        )
    absent = {image.id for image in dataset.posed_images} - set(known.values())
    if absent:
        logging.warning(
            "%s: images of the data set without a result: %d.", results_file, len(absent)
        )
    name = os.path.basename(results_file)
    return evaluate_results(dataset.images, persons, name, annotated=False, data=dataset.name)


def _check_results(content: Any, path: str | os.PathLike) -> list[dict[str, Any]]:
    """The entries of a COCO results file with masks, some of them of persons."""
    if not isinstance(content, list):
        raise coco.CocoError(
            f"{path}: is no COCO results file: expected a list of objects with 'image_id' and"
            f" 'segmentation', found {type(content).__name__}."
        )
    for index, entry in enumerate(content):
        for field in ("image_id", "category_id", "segmentation", "score"):
            if not isinstance(entry, dict) or field not in entry:
                raise coco.CocoError(f"{path}: result {index} has no '{field}'.")
        if not coco.is_number(entry["score"]):
            raise coco.CocoError(
                f"{path}: result {index}: 'score' must be a number, not {entry['score']!r:.40}."
            )
    others = [e["category_id"] for e in content if e["category_id"] != PERSON_CATEGORY]
    if others:
        found = ", ".join(sorted({f"{other!r:.20}" for other in others})[:5])
        if len(others) == len(content):
            raise coco.CocoError(
                f"{path}: no result has category_id {PERSON_CATEGORY}, a person in COCO; they have {found}."
            )
        logging.warning(
            "%s: %d of %d results have another category_id (%s) than %d, a person; they are left out.",
            path, len(others), len(content), found, PERSON_CATEGORY,
        )  # fmt: skip
    return content


def match_images(
    path: str | os.PathLike, images: Mapping[ImageKey, FileImage], dataset: coco.Dataset
) -> dict[ImageKey, int]:
    """Finds the images of a results or pose file in a data set, by number or by name.

    Args:
        path: of the file, for messages.
        images: of the file.
        dataset: the annotations.

    Returns:
        Key of each image of the file -> its id in the data set.

    Raises:
        UserError: an image is not in the data set, or may be several of it.
    """
    photos = [matching.Photo(image.file_name, image.id) for image in dataset.images]
    found = matching.match(images, photos, path)
    known = {key: dataset.images[number].id for number, key in found.items()}
    unknown = [image for key, image in images.items() if key not in known]
    if unknown:
        raise coco.CocoError(
            f"{path}: image_id {unknown[0]} ({len(unknown)} such) is not in {dataset.path}; the"
            " file belongs to other images."
        )
    return known
