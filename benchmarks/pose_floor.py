"""What a mask costs that never looks at the image: capsules around the limbs of the true pose.

    python benchmarks/pose_floor.py --coco_dir=COCO

COCO segm AP on the validation split. A model that does not use the image well ends up here.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from pycocotools import mask as mask_utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pose2seg_jax.alignment.affine_align import FALLBACK
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people import coco, parts
from pose2seg_jax.people.coco_layout import annotation_file
from pose2seg_jax.prediction.results import Result

RADIUS = 0.08  # of the longer side of the box of the labelled parts


def capsules(pose: np.ndarray, height: int, width: int, radius: float = RADIUS) -> np.ndarray:
    """(H, W) uint8: all pixels within `radius` of a limb, or of a part, of a pose (17, 3)."""
    shown = pose[:, 2] > 0
    size = max(np.ptp(pose[shown, :2], axis=0).max(), 1) if shown.any() else 1
    reach = radius * size
    limbs = [(a, b) for a, b in parts.COCO_LIMBS if shown[a] and shown[b]]
    limbs += [(part, part) for part in range(len(shown)) if shown[part]]
    mask = np.zeros((height, width), np.uint8)
    for a, b in limbs:
        start, along = pose[a, :2], pose[b, :2] - pose[a, :2]
        ends = pose[[a, b], :2]
        x0, y0 = np.maximum(np.floor(ends.min(0) - reach), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(ends.max(0) + reach), (width, height)).astype(int)
        x, y = np.meshgrid(np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5)
        pixels = np.stack([x, y], -1)
        t = np.clip((pixels - start) @ along / max(along @ along, 1e-6), 0, 1)
        gap = pixels - start - t[..., None] * along
        mask[y0:y1, x0:x1] |= np.sum(gap**2, -1) <= reach**2
    return mask


def floor(dataset: coco.Dataset) -> coco_protocol.Evaluation:
    """The capsules of all persons, scored as a method's masks are."""
    results = []
    for image in dataset.posed_images:
        masks = [capsules(person.pose, image.height, image.width) for person in image.posed]
        rles = tuple(mask_utils.encode(np.asfortranarray(mask)) for mask in masks)
        unknown = np.full(len(rles), FALLBACK)
        ones = np.ones(len(rles))
        poses = np.stack([person.pose for person in image.posed])
        result = Result((image.height, image.width), rles, ones, ones, unknown, poses)
        results += result.to_coco(image.id, [person.id for person in image.posed])
    return coco_protocol.evaluate_results(
        dataset.images, results, "capsules, no image", annotated=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco_dir", type=pathlib.Path, required=True)
    options = parser.parse_args()
    evaluation = floor(coco.read(annotation_file(options.coco_dir, "validation")))
    print(evaluation.table())
    print(json.dumps(evaluation.summary()))


if __name__ == "__main__":
    main()
