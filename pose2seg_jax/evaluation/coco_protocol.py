"""The COCO protocol of the paper's Tables 1 and 2: average precision of masks and of poses, by pycocotools."""

import contextlib
import dataclasses
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose2seg_jax.people import coco
from pose2seg_jax.people.parts import NUM_PARTS, PERSON_CATEGORY

COLUMNS = ("AP", "AP50", "AP75", "AP-M", "AP-L", "AP(M+L)")
HEAD = ("data", "predictions", "scores", *COLUMNS)
# The areas between which a person counts, in pixels; 32^2 and 96^2 are COCO's limits.
_AREAS = {
    "all": (0, 1e10),
    "medium": (32**2, 96**2),
    "large": (96**2, 1e10),
    "medium+large": (32**2, 1e10),
}
_OC_LOOSE_IOU = 0.3


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        data: which persons are the ground truth, and how many.
        predictions: whose masks.
        scores: "1.0" (the authors' protocol), "own", or "pose" where poses are scored in place of masks.
        metrics: COLUMNS in [0, 1]; nan where no person has such an area.
    """

    data: str
    predictions: str
    scores: str
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The rows of an evaluation, the headline row first, and the results behind them.

    Attributes:
        rows: of the table.
        results: entries of a COCO results file.
        mean_iou: over the persons, each with the mask of its own pose; None where the results do
            not come from the annotated poses.
    """

    rows: tuple[Row, ...]
    results: tuple[Mapping[str, Any], ...]
    mean_iou: float | None

    def summary(self) -> dict[str, float]:
        """The headline: COCOHUMAN with the model's own scores, and with all scores 1.0; of poses alone, that of the poses."""
        if len(self.rows) == 1:  # of poses
            return dict(self.rows[0].metrics)
        unit, own = self.rows[0].metrics, self.rows[1].metrics
        summary = dict(own) | {f"{name} (scores 1.0)": value for name, value in unit.items()}
        return summary if self.mean_iou is None else summary | {"mean IoU": self.mean_iou}

    def table(self) -> str:
        """All rows as text, in the layout of Tables 1 and 2."""
        lines = text_table(self.rows)
        if self.mean_iou is not None:
            lines.append(f"mean IoU of the persons' own masks: {_number(self.mean_iou)}")
        return "\n".join(lines)


def cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The rows of a table as text, under HEAD."""
    return [
        (row.data, row.predictions, row.scores, *(_number(row.metrics[c]) for c in COLUMNS))
        for row in rows
    ]


def text_table(rows: Sequence[Row]) -> list[str]:
    """The lines of a table."""
    return align_columns([HEAD, *cells(rows)], left=3)


def align_columns(lines: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of cells as text under each other, the first `left` columns to the left; ruled under the first."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return [text[0], "-" * len(text[0]), *text[1:]]


def segmentation_metrics(
    ground_truth: dict[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """COCO average precision of masks through pycocotools.

    Args:
        ground_truth: content of a COCO annotation file.
        results: entries of a COCO results file: image_id, category_id, segmentation (RLE), score.

    Returns:
        COLUMNS; AP(M+L) has its own area range [32^2, 1e10], as the paper's Table 1.
    """
    return _metrics(_evaluated(ground_truth, results, "segmentation"))


def keypoint_metrics(
    ground_truth: dict[str, Any], results: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """COCO average precision of poses (OKS) through pycocotools.

    Args:
        ground_truth: content of a COCO annotation file, with keypoints.
        results: entries of a COCO results file: image_id, category_id, keypoints, score.

    Returns:
        As `segmentation_metrics`.
    """
    return _metrics(_evaluated(ground_truth, results, "keypoints"))


def matching_poses(ground_truth: dict[str, Any], results: Sequence[Mapping[str, Any]]) -> list[int]:
    """Returns the numbers of the results whose pose pycocotools takes for an annotated person's: OKS of 0.5 or more.

    Args:
        ground_truth: content of a COCO annotation file, with keypoints.
        results: as for `keypoint_metrics`.
    """
    numbers = {
        result - 1  # pycocotools counts from 1
        for image in _evaluated(ground_truth, results, "keypoints").evalImgs
        if image is not None and tuple(image["aRng"]) == _AREAS["all"]
        for result, person, ignored in zip(
            image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True
        )
        if person and not ignored
    }
    return sorted(numbers)


def _evaluated(
    ground_truth: dict[str, Any], results: Sequence[Mapping[str, Any]], what: str
) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth
        truth.createIndex()
        fields = ("image_id", "category_id", what, "score")
        # A box in a result would make pycocotools take it for a box result.
        entries = [{field: entry[field] for field in fields} for entry in results]
        found = truth.loadRes(entries) if entries else COCO()
        evaluation = COCOeval(truth, found, "segm" if what == "segmentation" else what)
        evaluation.params.imgIds = sorted(image["id"] for image in ground_truth["images"])
        evaluation.params.catIds = [PERSON_CATEGORY]
        evaluation.params.maxDets = evaluation.params.maxDets[-1:]  # AP is at 100, of poses at 20
        evaluation.params.areaRng = list(_AREAS.values())
        evaluation.params.areaRngLbl = list(_AREAS)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _metrics(evaluation: COCOeval) -> dict[str, float]:
    precision = evaluation.eval["precision"][:, :, 0, :, -1]  # IoU threshold, recall, area

    def mean(values):
        values = values[values > -1]
        return float(np.mean(values)) if values.size else float("nan")

    return {
        "AP": mean(precision[:, :, 0]),
        "AP50": mean(precision[0, :, 0]),
        "AP75": mean(precision[5, :, 0]),
        "AP-M": mean(precision[:, :, 1]),
        "AP-L": mean(precision[:, :, 2]),
        "AP(M+L)": mean(precision[:, :, 3]),
    }


def ground_truth(
    images: Sequence[coco.Image],
    *,
    members: Collection[int] | None = None,
    ignore_others: bool = False,
) -> dict[str, Any]:
    """COCO annotations of the COCOHUMAN persons of some images.

    Args:
        images: the images.
        members: ids of the persons that count; None for all COCOHUMAN persons.
        ignore_others: keep the other persons as crowds, so that finding them costs nothing;
            otherwise they are dropped (as in the authors' file).

    Raises:
        coco.CocoError: a person that counts has no mask.
    """
    annotations = []
    for image in images:
        for person in image.persons:
            counts = person.has_pose and (members is None or person.id in members)
            if counts and person.segmentation is None:
                raise coco.CocoError(
                    f"annotation {person.id} of image {image.id}: has no 'segmentation' to evaluate"
                    " against; use COCO's person_keypoints file."
                )
            if counts or ignore_others:
                annotations.append(
                    {
                        "id": person.id,
                        "image_id": image.id,
                        "category_id": PERSON_CATEGORY,
                        "iscrowd": int(not counts),
                        "area": person.area,
                        "bbox": person.bbox.tolist(),
                        "segmentation": coco.mask_or_box(image, person),
                    }
                )
    return _coco_file(images, annotations)


def keypoint_ground_truth(images: Sequence[coco.Image]) -> dict[str, Any]:
    """COCO annotations of all persons of some images, to score poses: who has no pose is ignored by pycocotools."""
    annotations = []
    for person in (person for image in images for person in image.persons):
        seen = person.pose[:, 2:] > 0
        annotations.append(
            {
                "id": person.id,
                "image_id": person.image_id,
                "category_id": PERSON_CATEGORY,
                "iscrowd": int(person.is_crowd),
                "area": person.area,
                "bbox": person.bbox.tolist(),
                "keypoints": np.where(seen, person.pose - [0.5, 0.5, 0], 0).ravel().tolist(),
                "num_keypoints": int(seen.sum()) if person.has_pose else 0,
            }
        )
    return _coco_file(images, annotations)


def _coco_file(images: Sequence[coco.Image], annotations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "info": {},
        "images": [{"id": i.id, "height": i.height, "width": i.width} for i in images],
        "annotations": annotations,
        "categories": [{"id": PERSON_CATEGORY, "name": "person"}],
    }


def evaluate_results(
    images: Sequence[coco.Image],
    results: Sequence[Mapping[str, Any]],
    name: str,
    *,
    annotated: bool,
    data: str = coco.Dataset.name,
) -> Evaluation:
    """All rows for a list of results.

    Args:
        images: the evaluated images, with their persons.
        results: COCO segmentation results; `person_id` names the annotation whose pose was used.
        name: of the method, for the table.
        annotated: whether the results come from the annotated poses. Only then do the rows of the
            pair members alone exist; otherwise rows in which persons without a pose are ignored
            are added.
        data: what the table calls the posed persons.
    """
    human = [image for image in images if image.posed]
    rows = []

    def add(label, some, entries, **options):
        truth = ground_truth(some, **options)
        count = sum(not a["iscrowd"] for a in truth["annotations"])
        kept = _inside(some, entries)
        for scores in ("1.0", "own"):
            scored = [{**e, "score": 1.0} for e in kept] if scores == "1.0" else kept
            metrics = segmentation_metrics(truth, scored)
            rows.append(Row(f"{label} ({count} persons)", name, scores, metrics))

    add(data, human, results)
    if not annotated:
        add(f"{data}, others ignored", human, results, ignore_others=True)
        if results and all(_has_pose(entry) for entry in results):
            rows.append(_keypoint_row(f"{data}, poses, others ignored", human, results, name))
            inside = _inside(human, results)
            numbers = matching_poses(keypoint_ground_truth(human), _scored_as_poses(inside))
            matched = [inside[number] for number in numbers]
            label = f"{data}, {len(matched)} poses that match"
            add(label, human, matched)
            rows.append(_keypoint_row(label, human, matched, name))
    for label, iou in ((f"{data}-OC", coco.OC_IOU), ("box IoU > .3 (ours)", _OC_LOOSE_IOU)):
        pairs = {i.id: [p.id for p in coco.occluded_pairs(i, iou)] for i in human}
        members = {person for ids in pairs.values() for person in ids}
        some = [image for image in human if pairs[image.id]]
        if not some:
            continue
        add(f"{label}, {len(some)} images, all", some, results, members=members)
        if annotated:
            only = [entry for entry in results if entry.get("person_id") in members]
            add(f"{label}, {len(some)} images, members", some, only, members=members)
    return Evaluation(tuple(rows), tuple(results), _mean_iou(human, results) if annotated else None)


def evaluate_poses(
    images: Sequence[coco.Image],
    results: Sequence[Mapping[str, Any]],
    name: str,
    *,
    data: str = coco.Dataset.name,
) -> Evaluation:
    """The row of poses alone; the arguments are those of `evaluate_results`, the results COCO keypoint results."""
    row = _keypoint_row(f"{data}, poses, others ignored", images, results, name)
    return Evaluation((row,), tuple(results), None)


def pose_results(
    image_id: int, poses: np.ndarray, scores: np.ndarray | None
) -> list[dict[str, Any]]:
    """Returns the entries of a COCO keypoint results file for the persons of one image; None scores all 1."""
    return [
        {
            "image_id": image_id,
            "category_id": PERSON_CATEGORY,
            "keypoints": coco.format_keypoints(pose),
            "score": float(score),
        }
        for pose, score in zip(
            poses, np.ones(len(poses)) if scores is None else scores, strict=True
        )
    ]


def _has_pose(entry: Mapping[str, Any]) -> bool:
    """Whether a result holds COCO's 17 keypoints and a score."""
    values = entry.get("keypoints")
    return (
        isinstance(values, list)
        and len(values) == 3 * NUM_PARTS
        and all(
            coco.is_number(value) for value in [*values, entry.get("pose_score", entry["score"])]
        )
    )


def _keypoint_row(
    label: str,
    images: Sequence[coco.Image],
    results: Sequence[Mapping[str, Any]],
    name: str,
) -> Row:
    """The row that scores the poses themselves, by OKS; a part that is left out (0, 0) counts as wrong."""
    truth = keypoint_ground_truth(images)
    count = sum(a["num_keypoints"] > 0 for a in truth["annotations"])
    scored = _scored_as_poses(_inside(images, results))
    return Row(f"{label} ({count} persons)", name, "pose", keypoint_metrics(truth, scored))


def _inside(
    images: Sequence[coco.Image], results: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """The results in some images."""
    ids = {image.id for image in images}
    return [entry for entry in results if entry["image_id"] in ids]


def _scored_as_poses(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The results, each with the score of its pose."""
    return [{**entry, "score": entry.get("pose_score", entry["score"])} for entry in results]


def person_ious(
    images: Sequence[coco.Image], results: Sequence[Mapping[str, Any]]
) -> dict[int, float]:
    """Returns the IoU of each annotated person with the mask of its own pose, by annotation id.

    Args:
        images: that were evaluated.
        results: with `person_id`, the annotation whose pose was used; a person without a result is left out.
    """
    masks = {entry["person_id"]: entry["segmentation"] for entry in results}
    return {
        person.id: float(mask_utils.iou([masks[person.id]], [person.segmentation], [0])[0, 0])
        for image in images
        for person in image.posed
        if person.id in masks
    }


def _mean_iou(images: Sequence[coco.Image], results: Sequence[Mapping[str, Any]]) -> float:
    ious = list(person_ious(images, results).values())
    return float(np.mean(ious)) if ious else float("nan")


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}".removeprefix("0")
