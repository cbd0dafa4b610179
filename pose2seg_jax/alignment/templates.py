"""Pose templates: k-means over training poses; save, load, validate (paper 3.2, authors' recipe)."""

import importlib.resources
import json
import logging
import os
import pathlib
from importlib.resources.abc import Traversable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.people.parts import FLIPPED_PARTS, NUM_PARTS, PART_NAMES

MIN_PARTS = 8  # a pose with fewer labelled parts says too little (authors' code)
MIN_VISIBILITY = 0.4  # a part whose mean v is below is missing from a template (authors' code)
PACKAGED = ("coco_human", "cvpr2019")
_REACH = 1.0  # of the centre of the unit square: parts of a template are nearer
_FORMAT = "pose2seg_jax templates 1"


class TemplateError(UserError):
    """A template file that cannot be used, or poses that no template can be made from."""


def normalize_poses(
    poses: Float[np.ndarray, "N P 3"], boxes: Float[np.ndarray, "N 4"]
) -> Float[np.ndarray, "N P 3"]:
    """Poses in the unit square of their annotated box: aspect kept, centred, missing parts (0, 0, 0).

    The unit square is the ROI; a box around the parts would cut off heads, hands and feet.

    Args:
        poses: (x, y, v) in image coordinates.
        boxes: (x, y, width, height) of the persons.
    """
    side = np.max(boxes[:, 2:], axis=1)[:, None, None]
    center = (boxes[:, :2] + boxes[:, 2:] / 2)[:, None]
    normalized = np.concatenate([(poses[..., :2] - center) / side + 0.5, poses[..., 2:]], axis=-1)
    return np.where(poses[..., 2:] > 0, normalized, 0)


def make_templates(
    poses: Float[np.ndarray, "N P 3"],
    boxes: Float[np.ndarray, "N 4"],
    num_templates: int,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "K P 3"], Float[np.ndarray, " K"]]:
    """Clusters poses into templates with scikit-learn's k-means.

    The authors' recipe: poses with at least 8 labelled parts, normalised by their boxes, with their
    left-right flipped copies, missing parts at (0.5, 0.5, 0), clustered as 51-vectors. One thing
    differs: x and y of a template's part are the mean over the members that have the part, not the
    cluster's centre, which the placeholders of the others draw to the middle. Measured on 1,446
    training persons, that lowers the share of fallbacks from 32 % to 20 % (docs/alignment.md).

    Returns:
        Templates (x, y, v) in the unit square, v the mean visibility on the scale 0..2 and 0 for a
        part that is missing; and the share of poses that each stands for, largest first.

    Raises:
        TemplateError: fewer usable poses than templates.
    """
    usable = np.sum(poses[..., 2] > 0, axis=1) >= MIN_PARTS
    if np.sum(usable) < num_templates:
        raise TemplateError(
            f"{np.sum(usable)} of {len(poses)} poses have {MIN_PARTS} labelled parts or more: too few"
            f" for {num_templates} templates."
        )
    normalized = normalize_poses(poses[usable], boxes[usable])
    mirrored = normalized[:, FLIPPED_PARTS] * np.asarray([-1, 1, 1])
    mirrored[..., 0] += mirrored[..., 2] > 0
    both = np.concatenate([normalized, mirrored])
    labels = _cluster(np.where(both[..., 2:] > 0, both, [0.5, 0.5, 0]), num_templates, seed)

    shares = np.bincount(labels, minlength=num_templates) / len(labels)
    order = np.argsort(-shares, kind="stable")
    templates = np.stack([_average(both[labels == k]) for k in order])
    return templates, shares[order]


def _cluster(
    poses: Float[np.ndarray, "N P 3"], num_templates: int, seed: int
) -> Int[np.ndarray, " N"]:
    from sklearn.cluster import KMeans  # only this needs scikit-learn, and it is slow to import

    kmeans = KMeans(num_templates, n_init=10, random_state=seed)
    return kmeans.fit_predict(poses.reshape(len(poses), -1))


def _average(poses: Float[np.ndarray, "N P 3"]) -> Float[np.ndarray, "P 3"]:
    has_part = poses[..., 2:] > 0
    points = np.sum(poses[..., :2] * has_part, axis=0) / np.maximum(np.sum(has_part, axis=0), 1)
    # Hidden parts may be far outside of the box of what is visible; a mean of many is not.
    points = np.clip(points, 0.5 - _REACH, 0.5 + _REACH)
    template = np.concatenate([points, np.mean(poses[..., 2:], axis=0)], axis=-1)
    return np.where(template[:, 2:] >= MIN_VISIBILITY, template, 0)


def save(
    path: str | os.PathLike,
    templates: Float[np.ndarray, "K P 3"],
    shares: Float[np.ndarray, " K"],
    made_by: dict[str, Any],
) -> None:
    """Writes templates as JSON, one line a part. `made_by` says from what and how they were made."""
    entries = [
        {
            "share": round(float(share), 4),
            "parts": {
                name: [round(float(value), 4) for value in part]
                for name, part in zip(PART_NAMES, template, strict=True)
            },
        }
        for template, share in zip(templates, shares, strict=True)
    ]
    content = {"format": _FORMAT, "made_by": made_by, "templates": entries}
    text = json.dumps(content, indent=1)
    text = text.replace("[\n     ", "[").replace(",\n     ", ", ").replace("\n    ]", "]")
    paths.write_atomically(path, text + "\n")
    logging.info("wrote %d templates to %s", len(entries), path)


def source(path: str | os.PathLike | None = None) -> pathlib.Path | Traversable:
    """The template file at `path`; None or a name of PACKAGED for one of the package."""
    name = os.fspath(path) if path else "coco_human"
    if name in PACKAGED:
        return importlib.resources.files("pose2seg_jax.alignment") / f"templates_{name}.json"
    return paths.local(name, "a template file")


def load(path: str | os.PathLike | None = None) -> Float[np.ndarray, "K P 3"]:
    """Reads and checks a template file.

    Args:
        path: a file that `save` wrote; None or "coco_human" for the package's own two templates,
            made from the 3,045 training poses; "cvpr2019" for the three of the authors' CVPR 2019 code.

    Returns:
        (K, P, 3) float32 (x, y, v) in the unit square.

    Raises:
        TemplateError: the file is missing or is no valid template file.
    """
    file = source(path)
    make = "make one with main.py --mode=templates"
    try:
        content = json.loads(file.read_text())
    except OSError as error:
        raise TemplateError(f"{file}: cannot be read ({error.strerror}); {make}.") from None
    except (ValueError, RecursionError) as error:
        raise TemplateError(f"{file}: is no JSON file ({error}); {make}.") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise TemplateError(f"{file}: 'format' is not '{_FORMAT}'; {make}.")
    entries = content.get("templates")
    if not isinstance(entries, list) or not entries:
        raise TemplateError(f"{file}: 'templates' is not a list of templates; {make}.")
    rows = []
    for index, entry in enumerate(entries):
        where = f"{file}: template {index}"
        try:
            parts = {name: entry["parts"][name] for name in PART_NAMES}
            row = np.asarray(list(parts.values()), np.float32)
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
            raise TemplateError(
                f"{where}: 'parts' must map each of {', '.join(PART_NAMES)} to [x, y, v]."
            ) from None
        if row.shape != (NUM_PARTS, 3):
            raise TemplateError(
                f"{where}: 'parts' must hold {NUM_PARTS} triples [x, y, v], found an array of shape"
                f" {row.shape}."
            )
        rows.append(row)
    made = np.stack(rows)
    check(made, f"{file}: ")
    return made


def check(templates: Float[np.ndarray, "..."], where: str = "") -> None:
    """Checks that an array can serve as templates.

    Args:
        templates: (K, 17, 3) with K > 0, (x, y, v) in the unit square.
        where: what the message begins with.

    Raises:
        TemplateError: it cannot.
    """
    if templates.ndim != 3 or not len(templates) or templates.shape[1:] != (NUM_PARTS, 3):
        raise TemplateError(
            f"{where}templates must have the shape (K, {NUM_PARTS}, 3), not {templates.shape}."
        )
    for index, template in enumerate(templates):
        points, visibility = template[:, :2], template[:, 2]
        one = f"{where}template {index}"
        if not np.all(np.isfinite(template)):
            raise TemplateError(f"{one}: holds values that are not finite.")
        if np.any((visibility < 0) | (visibility > 2)) or np.any(np.abs(points - 0.5) > _REACH):
            raise TemplateError(
                f"{one}: v must be in [0, 2], x and y within {_REACH:g} of the centre 0.5."
            )
        if np.sum(visibility > 0) < 2:
            raise TemplateError(f"{one}: has fewer than two parts with v > 0.")
