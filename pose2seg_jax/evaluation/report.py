"""One HTML page about a trained network: its table, scenes, AffineAlign step by step, charts, the worst masks.

The page holds its pictures and opens offline.
"""

import base64
import html
import io
import logging
import os
import string
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import PIL.Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from pose2seg_jax import paths
from pose2seg_jax.evaluation import breakdown, charts, coco_protocol
from pose2seg_jax.people import coco
from pose2seg_jax.people.images import ImageError, open_image
from pose2seg_jax.pictures import overlays, panels
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.prediction.results import Result

_NUM_SCENES = 6
_NUM_ALIGNED = 6
_NUM_WORST = 10
_WORST_SIDE = 260  # of a picture of the worst masks, in pixels
_CURVES = ("loss", "roi_iou", "learning_rate")

_PAGE = string.Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>$title</title>
<style>
 body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
 table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px }
 th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd }
 td:nth-child(-n+3), th:nth-child(-n+3) { text-align: left }
 figure { margin: 0 0 1.2em } img { max-width: 100%; height: auto; display: block }
 figcaption { color: #555; font-size: 14px } .row { display: flex; flex-wrap: wrap; gap: 1em }
</style>
<h1>$title</h1>
<p>$summary</p>
<h2>Results</h2>
$table
<p>COCO average precision of the masks, in the layout of Tables 1 and 2 of the paper. OC: images in which two people's
boxes overlap by IoU &gt; .5; "members" asks for the people of those pairs alone.</p>
<h2>Scenes</h2>
<p>Left the image with the boxes of the people, middle the predicted masks and the poses that were asked for, right the
true masks. Where two boxes overlap by more than .5 (dashed), the NMS of a detector keeps only one of them.</p>
$scenes
<h2>AffineAlign</h2>
<p>As Figure 10 of the paper. From left: the person's pose and the ROI to which it was aligned; the aligned ROI; the
Skeleton Features; the predicted mask in the ROI; the mask back in the image.</p>
$aligned
<h2>Where it is good, and where not</h2>
<p>Masks of the persons' own poses. The number of persons stands below or beside each value.</p>
<div class="row">$charts</div>
<h2>The worst masks</h2>
<p>The lowest IoU first. Left the predicted mask and the pose that was asked for, right the true mask.</p>
<div class="row">$worst</div>
<h2>Learning curves</h2>
<div class="row">$curves</div>
</html>
""")


def write(
    path: str | os.PathLike,
    predictor: Pose2SegPredictor,
    dataset: coco.Dataset,
    images: os.PathLike,
    evaluation: coco_protocol.Evaluation,
    workdir: str | os.PathLike,
    summary: str,
    with_noise: Mapping[float, coco_protocol.Evaluation],
) -> None:
    """Writes the page.

    Args:
        path: of the page.
        predictor: the trained network.
        dataset: the annotations that were evaluated; scenes with overlapping people come first.
        images: directory of its images.
        evaluation: for the table.
        workdir: of the run, with TensorBoard's events.
        summary: a sentence on what was trained.
        with_noise: evaluations with poses as wrong as some level of `pose_noise`, by that level.
    """
    human = sorted(
        dataset.posed_images,
        key=lambda image: -len(coco.occluded_pairs(image, coco.OC_IOU)),
    )
    scenes: list[np.ndarray] = []
    aligned: list[np.ndarray] = []
    for image in human:
        if len(scenes) == _NUM_SCENES:
            break
        try:
            opened = open_image(
                paths.resolve(images) / image.file_name, (image.height, image.width)
            )
        except ImageError as error:
            logging.warning("%s; it is not shown.", error)
            continue
        picture = np.asarray(opened.convert("RGB"))
        poses = np.stack([person.pose for person in image.posed])
        encoded = predictor.encode(picture)
        scenes.append(_scene(image, picture, poses, predictor(encoded, poses)))
        if len(aligned) < _NUM_ALIGNED:
            rois = predictor.rois(encoded, poses[:2])
            aligned += panels.alignment_panels(
                picture,
                poses[:2],
                np.asarray(rois.probabilities),
                np.asarray(rois.alignment.matrix),
                predictor.network.spec.roi_stride,
            )
    masks = breakdown.person_masks(dataset.images, evaluation.results)
    page = _PAGE.substitute(
        title="Pose2Seg: people told apart by their poses",
        summary=html.escape(summary),
        table=_table(evaluation),
        scenes="".join(map(_figure, scenes)),
        aligned="".join(map(_figure, aligned[:_NUM_ALIGNED])),
        charts="".join(_charts(masks, with_noise)),
        worst="".join(
            _bad_mask(mask, images)
            for mask in sorted(masks, key=lambda mask: mask.iou)[:_NUM_WORST]
        ),
        curves="".join(
            charts.learning_curve(name, points)
            for name, points in _read_curves(workdir).items()
            if points
        ),
    )
    paths.write_atomically(path, page)


def _scene(image: coco.Image, picture: np.ndarray, poses: np.ndarray, result: Result) -> np.ndarray:
    members = {person.id for person in coco.occluded_pairs(image, coco.OC_IOU)}
    boxes = [(person.bbox, person.id in members) for person in image.posed]
    return np.concatenate(
        [
            overlays.draw_boxes(picture, boxes),
            overlays.overlay(picture, result.rles, poses),
            overlays.overlay(picture, [person.segmentation for person in image.posed]),
        ],
        axis=1,
    )


def _charts(
    masks: Sequence[breakdown.PersonMask], with_noise: Mapping[float, coco_protocol.Evaluation]
) -> Iterator[str]:
    by_kind: dict[str, list[breakdown.Group]] = {}
    for group in breakdown.groups(masks):
        by_kind.setdefault(group.kind, []).append(group)
    for kind, groups in by_kind.items():
        yield charts.bars(kind, groups)
    if masks:
        yield charts.reliability(masks)
    metrics = {level: evaluation.summary() for level, evaluation in with_noise.items()}
    names = {"AP (scores 1.0)": "scores 1.0", "AP": "own scores"}
    yield charts.robustness(
        {
            level: {label: found[name] for name, label in names.items()}
            for level, found in metrics.items()
        }
    )


def _bad_mask(mask: breakdown.PersonMask, images: os.PathLike) -> str:
    """A person with the predicted and with the true mask, and some of the image around; nothing where the image cannot be read."""
    image, person = mask.image, mask.person
    try:
        opened = open_image(paths.resolve(images) / image.file_name, (image.height, image.width))
    except ImageError:  # the evaluation has named it
        return ""
    picture = np.asarray(opened.convert("RGB"))
    found = overlays.overlay(picture, [mask.segmentation], [mask.pose])
    true = overlays.overlay(picture, [person.segmentation])
    x, y, width, height = person.bbox
    margin = 0.3 * max(width, height) + 8
    box = [x - margin, y - margin, x + width + margin, y + height + margin]
    pair = [PIL.Image.fromarray(shown).crop(tuple(map(round, box))) for shown in (found, true)]
    for cut in pair:
        cut.thumbnail((_WORST_SIDE, _WORST_SIDE))
    caption = (
        f"person {person.id}, image {image.id}: IoU {mask.iou:.2f}, own score {mask.score:.2f},"
        f" {mask.num_parts} labelled parts, {mask.side:.0f} px, box IoU with another {mask.overlap:.2f}"
    )
    if reasons := mask.reasons():
        caption += f". Perhaps because {' and '.join(reasons)}"
    return _figure(np.concatenate([np.asarray(cut) for cut in pair], axis=1), caption, largest=2)


def _table(evaluation: coco_protocol.Evaluation) -> str:
    lines = [coco_protocol.HEAD, *coco_protocol.cells(evaluation.rows)]
    rows = [
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line) + "</tr>"
        for tag, line in zip(["th"] + ["td"] * len(lines), lines, strict=False)
    ]
    return f"<table>{''.join(rows)}</table>"


def _figure(picture: np.ndarray, caption: str = "", largest: int = 99) -> str:
    scale = min(max(1, round(900 / picture.shape[1])), largest)
    shown = PIL.Image.fromarray(picture)
    shown = shown.resize((shown.width * scale, shown.height * scale), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img src="data:image/jpeg;base64,{data}" alt=""><figcaption>{html.escape(caption)}</figcaption></figure>\n'


def _read_curves(workdir: str | os.PathLike) -> Mapping[str, list[tuple[int, float]]]:
    """Step and value of the scalars of a run, from TensorBoard's events."""
    events = EventAccumulator(os.fspath(paths.resolve(workdir)), size_guidance={"tensors": 0})
    events.Reload()
    curves: dict[str, list[tuple[int, float]]] = {}
    for name in _CURVES:
        if name in events.Tags()["tensors"]:
            found = events.Tensors(name)
            curves[name] = [
                (e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in found
            ]
    return curves
