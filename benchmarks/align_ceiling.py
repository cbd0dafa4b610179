"""How good a mask can get through AffineAlign: true mask -> soft ROI -> back, no network.

    python benchmarks/align_ceiling.py --coco_dir=COCO --roi_size=64

H comes from the pose and the image's size alone. The last line is JSON.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from pycocotools import mask as mask_utils

from pose2seg_jax.alignment import affine_align, sampling, templates
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people import coco, parts
from pose2seg_jax.people.coco_layout import annotation_file

_CHUNK = 8


def _round_trip(masks, poses, sizes, pose_templates, *, roi_size, reflect):
    alignment = affine_align.align_poses(poses, pose_templates, sizes, roi_size, reflect=reflect)
    rois = sampling.align_masks(masks, alignment.matrix, roi_size)
    back = sampling.reverse_align(rois, alignment.matrix, *masks.shape[1:])
    return back > 0.5, alignment.fallback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco_dir", required=True)
    parser.add_argument("--roi_size", type=int, default=64)
    parser.add_argument("--split", choices=["train", "validation"], default="validation")
    parser.add_argument("--templates", help="a template file; default: the package's")
    parser.add_argument("--no_reflect", action="store_true")
    options = parser.parse_args()

    dataset = coco.read(annotation_file(options.coco_dir, options.split))
    people = [(image, person) for image in dataset.posed_images for person in image.posed]
    height = max(image.height for image in dataset.posed_images)
    width = max(image.width for image in dataset.posed_images)
    pose_templates = jnp.asarray(templates.load(options.templates))

    @jax.jit
    def round_trip(masks, poses, sizes):
        return _round_trip(
            masks,
            poses,
            sizes,
            pose_templates,
            roi_size=options.roi_size,
            reflect=not options.no_reflect,
        )

    results, ious, fallbacks = [], [], []
    for start in range(0, len(people), _CHUNK):
        chunk = people[start : start + _CHUNK]
        masks = np.zeros((_CHUNK, height, width), np.float32)
        poses = np.zeros((_CHUNK, parts.NUM_PARTS, 3), np.float32)
        sizes = np.ones((_CHUNK, 2), np.float32)
        for slot, (image, person) in enumerate(chunk):
            masks[slot, : image.height, : image.width] = mask_utils.decode(person.segmentation)
            poses[slot], sizes[slot] = person.pose, (image.height, image.width)
        back, fallback = map(np.asarray, round_trip(masks, poses, sizes))
        for slot, (image, person) in enumerate(chunk):
            mask = np.asfortranarray(back[slot, : image.height, : image.width], np.uint8)
            rle = mask_utils.encode(mask)
            ious.append(mask_utils.iou([rle], [person.segmentation], [0])[0, 0])
            fallbacks.append(fallback[slot])
            results.append(
                {"image_id": image.id, "category_id": 1, "segmentation": rle, "score": 1.0}
            )
    metrics = coco_protocol.segmentation_metrics(
        coco_protocol.ground_truth(dataset.posed_images), results
    )
    print(f"{len(people)} persons of {dataset.path}, ROI {options.roi_size}")
    print(f"fallbacks {np.mean(fallbacks):.1%}, mean IoU {np.mean(ious):.4f}")
    print("  ".join(f"{name} {metrics[name]:.4f}" for name in ("AP", "AP-M", "AP-L")))
    numbers = {"ap": metrics["AP"], "mean_iou": np.mean(ious), "fallback": np.mean(fallbacks)}
    print(json.dumps({name: round(float(value), 4) for name, value in numbers.items()}))


if __name__ == "__main__":
    main()
