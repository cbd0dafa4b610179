"""The paper's claim on generated people: alignment by pose against alignment by box.

    python benchmarks/compare.py --workdir=DIR

Trains one config (configs/synthetic_compare.py) twice, with the same steps and seed and with
Skeleton Features in both: ROIs from poses, and ROIs from the true boxes, as a perfect detector
would give them. A third row lets NMS at a box IoU of .5 drop boxes first, best score first, as a
detector does. The last row never looks at the image. Run again, it goes on where it stopped.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ml_collections
import numpy as np
from pycocotools import mask as mask_utils

from benchmarks import pose_floor, rows
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people import coco
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.program import data, runs

NMS_IOU = 0.5
_POSE, _BOX, _NMS = "pose alignment", "box alignment", f"box alignment, NMS at {NMS_IOU}"


def kept_by_nms(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which boxes (x, y, width, height) of an image survive NMS, the highest score first; (N,) bool."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    kept = np.zeros(len(boxes), bool)
    overlaps = np.reshape(mask_utils.iou(boxes, boxes, [0] * len(boxes)), (len(boxes), len(boxes)))
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        kept[index] = not np.any(overlaps[index, kept] > NMS_IOU)
    return kept


def suppress(dataset: coco.Dataset, results: Sequence[Mapping]) -> list[Mapping]:
    """The results whose annotated box survives NMS."""
    boxes = {person.id: person.bbox for person in dataset.persons()}
    of_image: dict[int, list[Mapping]] = {}
    for entry in results:
        of_image.setdefault(entry["image_id"], []).append(entry)
    found: list[Mapping] = []
    for entries in of_image.values():
        own = np.stack([boxes[entry["person_id"]] for entry in entries])
        kept = kept_by_nms(own, np.asarray([entry["score"] for entry in entries]))
        found += [entry for entry, k in zip(entries, kept, strict=True) if k]
    return found


def rows_of(evaluation: coco_protocol.Evaluation, name: str) -> list[coco_protocol.Row]:
    """All persons and OC pairs, with own scores."""
    wanted = ("COCOHUMAN (", "COCOHUMAN-OC")
    rows = [row for row in evaluation.rows if row.data.startswith(wanted) and row.scores == "own"]
    return [coco_protocol.Row(row.data, name, row.scores, row.metrics) for row in rows]


def compare(base: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Trains what is not trained yet, and prints the table."""
    found = {}
    for method, policy in (("pose", "affine_align"), ("box", "box")):
        config = base.copy_and_resolve_references()
        config.model.alignment.policy = policy
        config.dataset.data_dir = str(workdir / "data")
        runs.train(config, str(workdir / method))
        trained, _ = runs.restore(str(workdir / method))
        evaluator = data.open_evaluator(config, Network(trained.spec, config.dtype))
        found[method] = evaluator.run(trained.variables)
    dataset = evaluator.dataset  # the same for both
    kept = suppress(dataset, found["box"].results)
    suppressed = coco_protocol.evaluate_results(dataset.images, kept, "", annotated=True)
    methods = {
        _POSE: found["pose"],
        _BOX: found["box"],
        _NMS: suppressed,
        "capsules, no image": pose_floor.floor(dataset),
    }
    table = [row for name, evaluation in methods.items() for row in rows_of(evaluation, name)]
    table.sort(key=lambda row: row.data)  # stable: the methods stay in order
    print("\n".join(coco_protocol.text_table(table)))
    members = {person.id for image in dataset.posed_images for person in coco.occluded_pairs(image)}
    count = len(dataset.persons())
    print(
        f"{len(members)} of {count} persons ({len(members) / count:.0%}) are in a pair with box IoU >"
        f" {coco.OC_IOU}; NMS drops {len(found['box'].results) - len(kept)} persons."
    )
    for name in sorted({row.data for row in table}):
        ap = {row.predictions: row.metrics["AP"] for row in table if row.data == name}
        print(
            f"{name}: pose over box with NMS {ap[_POSE] - ap[_NMS]:+.3f} AP (x"
            f" {ap[_POSE] / max(ap[_NMS], 1e-9):.2f}), of which without NMS"
            f" {ap[_BOX] - ap[_NMS]:+.3f} and alignment by pose {ap[_POSE] - ap[_BOX]:+.3f}"
        )
    summary = [{"data": r.data, "predictions": r.predictions, **r.metrics} for r in table]
    (workdir / "compare.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    rows.run_experiment(compare, "configs/synthetic_compare.py", "What is trained twice.")
