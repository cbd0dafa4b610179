"""The paper's claim on real persons: ROIs from poses against ROIs from boxes as detectors find them.

    for seed in 0 1 2; do
      python main.py --config=configs/coco_human_lite.py --workdir=pose_$seed --config.seed=$seed ...
      python main.py --config=configs/coco_human_lite.py --workdir=box_$seed --config.seed=$seed ... \
        --config.model.alignment.policy=box
      python main.py --workdir=pose_$seed --mode=export_weights --output=pose_$seed.safetensors  # and box_$seed
    done
    python -m benchmarks.detected_boxes --pose pose_*.safetensors --box box_*.safetensors --coco_dir=COCO

Both kinds of networks have Skeleton Features of the same poses; only the ROIs differ. A detected box is the true one whose
edges are moved by a Gaussian (--jitter of its width or height). NMS at a box IoU of 0.5 keeps the person of whom more is seen. As many
persons are missed by the detector as by the pose estimator (--missed), and the same ones. In the last condition nothing is
made up: poses, boxes and scores are MoveNet's. A second look takes the boxes of the masks that the first --pose network
made. Shown are the mean over the files and half of their range.
"""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from pycocotools import mask as mask_utils

from benchmarks import compare, rows
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol, evaluator
from pose2seg_jax.people import coco, coco_layout
from pose2seg_jax.people.images import open_image
from pose2seg_jax.prediction.batch_predictor import Persons
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.pose_estimators import movenet_poses
from pose2seg_jax.prediction.pose_estimators.estimated_poses import sure_poses, surest_first
from pose2seg_jax.program import data
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights import movenet_files

# MoveNet's persons with a lower score are left out: best for AP (docs/model_card.md).
_POSE_SCORE = 0.1
_COLUMNS = ("persons", "ROIs from", "what is given", "AP, scores 1.0", "AP, own scores")


class _Condition(NamedTuple):
    """What the networks of one kind are given.

    Attributes:
        name: of the row.
        persons: by image.
        annotated: whether they are annotated persons.
    """

    name: str
    persons: Mapping[int, Persons]
    annotated: bool = True


def _chosen(persons: Persons, kept: np.ndarray) -> Persons:
    """Some of the persons of an image."""
    ids = None if persons.ids is None else [i for i, k in zip(persons.ids, kept, strict=True) if k]
    scores = None if persons.scores is None else persons.scores[kept]
    return Persons(persons.poses[kept], persons.boxes[kept], ids, scores)


def _jittered(
    persons: Mapping[int, Persons], jitter: float, rng: np.random.Generator
) -> dict[int, Persons]:
    """The persons with boxes as a detector finds them."""
    made = {}
    for image_id, found in persons.items():
        corner, size = found.boxes[:, :2], found.boxes[:, 2:]
        low, high = (rng.normal(0, jitter, size.shape) * size for _ in range(2))
        boxes = np.concatenate([corner + low, np.maximum(size + high - low, 1)], axis=1)
        made[image_id] = found._replace(boxes=boxes.astype(np.float32))
    return made


def _mean_iou(persons: Mapping[int, Persons], others: Mapping[int, Persons]) -> float:
    """Of the boxes of the same persons."""
    found = [
        np.diag(mask_utils.iou(persons[i].boxes.astype(float), others[i].boxes.astype(float), [0] * len(others[i].boxes)))
        for i in persons
    ]  # fmt: skip
    return float(np.concatenate(found).mean())


def _movenet(dataset: coco.Dataset, directory: Any) -> dict[int, Persons]:
    """Whom MoveNet finds, with its poses and its boxes."""
    side, (part, _) = movenet_poses.SIDES[0], movenet_poses.thresholds(accurate=False)
    find, variables, made = jax.jit(movenet_poses.find_people), jax.device_put(movenet_files.load()), {}  # fmt: skip
    for image in dataset.posed_images:
        size = image.height, image.width
        pixels = np.asarray(open_image(directory / image.file_name, size).convert("RGB"))
        canvas = movenet_poses.CENTERS.letterbox_image(pixels, side)[None]
        found = jax.device_get(find(variables, [canvas], np.asarray(size, np.float32)))
        scores = np.sqrt(found.scores)
        poses = sure_poses(found.points, found.part_scores, scores, part, _POSE_SCORE)
        boxes = found.boxes[surest_first(found.part_scores, scores, part, _POSE_SCORE)]
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        made[image.id] = Persons(poses.poses, boxes, None, poses.scores)
    return made


def _second_look(
    true: Mapping[int, Persons], results: Sequence[Mapping[str, Any]]
) -> dict[int, Persons]:
    """The annotated persons, each with the box of the mask that was predicted of them; an empty mask leaves a box of one pixel."""
    masks = {entry["person_id"]: entry["segmentation"] for entry in results}
    return {
        image_id: persons._replace(
            boxes=mask_utils.toBbox([masks[i] for i in persons.ids or ()]).astype(np.float32)
        )
        for image_id, persons in true.items()
    }


def _conditions(
    dataset: coco.Dataset,
    directory: Any,
    jitter: float,
    missed: float,
    true: Mapping[int, Persons],
    results: Sequence[Mapping[str, Any]],
) -> dict[str, list[_Condition]]:
    """What the networks of both kinds are given; `results` hold the masks of the `true` poses, for the second look."""
    rng = np.random.default_rng(0)
    noisy = evaluator.annotated_persons(dataset, 1, 0)
    detected = _jittered(noisy, jitter, rng)
    iou = _mean_iou(detected, true)
    print(f"boxes as detected have a mean IoU of {iou:.3f} with the true ones", flush=True)
    seen = {person.id: person.mask_area for person in dataset.persons()}
    found = {i: rng.uniform(size=len(persons.poses)) >= missed for i, persons in true.items()}

    def missing(persons: Mapping[int, Persons]) -> dict[int, Persons]:
        return {i: _chosen(of_image, found[i]) for i, of_image in persons.items()}

    def nms(persons: Mapping[int, Persons]) -> dict[int, Persons]:
        def survivors(found: Persons) -> Persons:
            scores = [seen[i] for i in found.ids] if found.ids is not None else found.scores
            return _chosen(found, compare.kept_by_nms(found.boxes, np.asarray(scores)))

        return {i: survivors(of_image) for i, of_image in persons.items()}

    movenet = _movenet(dataset, directory)
    again = _second_look(true, results)
    iou = _mean_iou(again, true)
    print(f"boxes of the first network's masks have a mean IoU of {iou:.3f} with the true ones", flush=True)  # fmt: skip
    return {
        "pose": [
            _Condition("annotated", true),
            _Condition(f"noise of level 1, {missed:.0%} missed", missing(noisy)),
            _Condition("MoveNet's", movenet, annotated=False),
        ],
        "box": [
            _Condition("annotated", true),
            _Condition("boxes of masks: a second look", again),
            _Condition(f"as detected, {missed:.0%} missed, NMS", nms(missing(detected))),
            _Condition("MoveNet's, NMS", nms(movenet), annotated=False),
        ],
    }


def _label(row: coco_protocol.Row, annotated: bool) -> str | None:
    """What the table calls the persons of a row; None for rows that it leaves out."""
    if row.data.startswith("COCOHUMAN (" if annotated else "COCOHUMAN, others ignored"):
        return "all"
    if row.data.startswith("box IoU > .3") and ("members" in row.data or not annotated):
        return "pairs"
    return None


def _scored(
    kind: str, files: Sequence[pathlib.Path], given: Sequence[_Condition], make: Any
) -> list[tuple[str, ...]]:
    """The table's rows of the networks of one kind.

    Raises:
        UserError: a file is of the other kind.
    """
    loaded = [weights.load(path) for path in files]
    if {one.spec.policy == "box" for one in loaded} != {kind == "box"}:
        raise UserError(f"--{kind}: not all of these files align by {kind}.")
    network, lines = Network(loaded[0].spec), []
    evaluators = {annotated: make(network, annotated) for annotated in (True, False)}
    for condition in given:
        scorer = evaluators[condition.annotated].with_persons(condition.persons)
        found: dict[tuple[str, str], list[float]] = {}
        for one in loaded:
            for row in scorer.run(one.variables).rows:
                label = _label(row, condition.annotated)
                if label:
                    found.setdefault((label, row.scores), []).append(row.metrics["AP"])
        for label in ("all", "pairs"):
            cells = [_spread(found[label, scores]) for scores in ("1.0", "own")]
            lines.append((label, kind, condition.name, *cells))
            print("  ".join(lines[-1]), flush=True)
    return lines


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.ptp(values) / 2:.3f}"


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--pose", type=pathlib.Path, nargs="+", required=True, help="weights files, aligned by pose")  # fmt: skip
    parser.add_argument("--box", type=pathlib.Path, nargs="+", required=True, help="the like, aligned by box")  # fmt: skip
    parser.add_argument("--jitter", type=float, default=0.04)
    parser.add_argument("--missed", type=float, default=0.1)
    options = parser.parse_args()
    config = rows.load_config(options)
    dataset = data.validation(config)
    directory = coco_layout.image_directory(data.coco_directory(config), "validation")

    def make(network: Network, annotated: bool) -> evaluator.Evaluator:
        return evaluator.Evaluator(
            network, dataset, directory, {}, name="", annotated=annotated,
            batch_size=config.eval.batch_size, persons_per_batch=config.eval.persons_per_batch,
        )  # fmt: skip

    first, true = weights.load(options.pose[0]), evaluator.annotated_persons(dataset, 0, 0)
    scorer = make(Network(first.spec), annotated=True).with_persons(true)
    results = scorer.run(first.variables).results
    given = _conditions(dataset, directory, options.jitter, options.missed, true, results)
    score = functools.partial(_scored, make=make)
    lines = [*score("pose", options.pose, given["pose"]), *score("box", options.box, given["box"])]
    lines.sort(key=lambda line: line[0])  # stable: the conditions stay in order
    print("\n".join(coco_protocol.align_columns([_COLUMNS, *lines], 3)))


if __name__ == "__main__":
    rows.run(main)
