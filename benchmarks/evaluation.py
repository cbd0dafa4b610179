"""What evaluation costs beside the network.

    python -m benchmarks.evaluation --coco_dir=COCO [--weights=FILE.safetensors]

After the network: the true masks, as the network would give them in their ROIs, to the image, to RLE,
through pycocotools. End to end: an `Evaluator` that is made anew and run with what an earlier one has
compiled, beside the network alone on the same batches.
"""

import pathlib
import time
from typing import Any

import jax
import numpy as np
from pycocotools import mask as mask_utils

from benchmarks import rows
from pose2seg_jax.alignment import affine_align, sampling
from pose2seg_jax.evaluation import coco_protocol, evaluator
from pose2seg_jax.people import coco
from pose2seg_jax.prediction import batch_predictor
from pose2seg_jax.prediction.network import Network, RoiPrediction
from pose2seg_jax.prediction.results import Result
from pose2seg_jax.program import data

_REPEATS = 3
_ASKED = 0.15  # the most of an evaluation that may be spent outside the network


class _Recording(batch_predictor.BatchPredictor):
    """Remembers what the network was asked; all of them share what the first has compiled."""

    compiled: tuple[Any, ...] = ()
    asked: list[tuple[Any, Any, list[Any]]]

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        _Recording.compiled = _Recording.compiled or (self._encode, self._segment)
        _Recording.asked = []
        self._encode, self._segment = self._record_encode, self._record_segment

    def _record_encode(self, variables, images):
        self.asked.append((variables, images, []))
        return self.compiled[0](variables, images)

    def _record_segment(self, variables, features, *others):
        self.asked[-1][2].append(others)
        return self.compiled[1](variables, features, *others)


def _network_alone() -> float:
    """Seconds that the network takes for all that was asked."""
    encode, segment = _Recording.compiled
    start = time.perf_counter()
    for variables, images, chunks in _Recording.asked:
        features = encode(variables, images)
        for chunk in chunks:
            jax.block_until_ready(segment(variables, features, *chunk))
    return time.perf_counter() - start


def _true_rois(
    dataset: coco.Dataset, pose_templates: Any, roi_size: int
) -> list[tuple[coco.Image, coco.Person, RoiPrediction]]:
    """The true masks in their ROIs."""
    align = jax.jit(affine_align.align_poses, static_argnums=3, static_argnames="reflect")
    pull = jax.jit(sampling.align_masks, static_argnums=2)
    found = []
    for image in dataset.posed_images:
        side = max(image.height, image.width)
        for person in image.posed:
            size = np.asarray([[image.height, image.width]], np.float32)
            pose = person.pose[None].astype(np.float32)
            alignment = align(pose, pose_templates, size, roi_size, reflect=True)
            mask = np.zeros((1, side, side), np.float32)  # one shape for most images
            mask[0, : image.height, : image.width] = mask_utils.decode(person.segmentation)
            roi = np.asarray(pull(mask, alignment.matrix, roi_size))
            part = RoiPrediction(roi, np.ones(1, np.float32), alignment)
            found.append((image, person, jax.tree.map(np.asarray, part)))
    return found


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--weights", type=pathlib.Path, help="default: an untrained network")
    options = parser.parse_args()
    config = rows.load_config(options)
    loaded = rows.network(config, options.weights)
    variables, spec = loaded.variables, loaded.spec
    network = Network(spec, config.dtype, config.prediction.flip)
    dataset = data.validation(config)
    true = _true_rois(dataset, spec.template_array, spec.roi_size)
    start = time.perf_counter()
    results = []
    for image, person, roi in true:
        result = Result.from_rois(roi, (image.height, image.width), person.pose[None])
        results += result.to_coco(image.id, [person.id])
    encoded = time.perf_counter() - start
    masks = [np.asfortranarray(mask_utils.decode(entry["segmentation"])) for entry in results]
    start = time.perf_counter()
    for mask in masks:
        mask_utils.encode(mask)
    whole_masks = time.perf_counter() - start
    start = time.perf_counter()
    coco_protocol.segmentation_metrics(coco_protocol.ground_truth(dataset.posed_images), results)
    once = time.perf_counter() - start
    start = time.perf_counter()
    table = coco_protocol.evaluate_results(dataset.images, results, "", annotated=True)
    scored = time.perf_counter() - start

    evaluator.BatchPredictor = _Recording  # type: ignore[assignment, misc]
    data.open_evaluator(config, network).run(variables)  # compiles
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        data.open_evaluator(config, network).run(variables)
        times.append((time.perf_counter() - start, _network_alone()))
    whole, alone = np.median(times, axis=0).tolist()
    part = f"evaluation, {spec.image_size} px"
    rows.publish(
        [
            rows.Row(
                part,
                f"{len(true)} persons, ROI to RLE",
                encoded,
                "s",
                "pycocotools, from masks of the image",
                whole_masks,
            ),
            rows.Row(
                part,
                f"all {len(table.rows)} rows of the table",
                scored,
                "s",
                "one pass of COCOeval",
                once,
            ),
            rows.Row(part, "end to end", whole, "s", "network alone", alone),
            rows.Row(
                part,
                "share outside the network, run alone",
                1 - alone / whole,
                "",
                "asked",
                _ASKED,
            ),
        ],
        options,
    )


if __name__ == "__main__":
    rows.run(main)
