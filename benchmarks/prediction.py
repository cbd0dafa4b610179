"""What prediction costs: first call, later calls beside the network alone, compilations, memory.

    python -m benchmarks.prediction --coco_dir=COCO [--weights=FILE.safetensors]

From image to RLE; the network alone is its jitted module on the letterboxed image and the alignment
that the predictor found. Poses are random: time does not depend on them.
"""

import pathlib
import resource
import time
from typing import Any

import jax
import numpy as np
import PIL.Image

from benchmarks import rows
from input_pipeline import coco
from pose2seg_jax import Pose2SegPredictor, evaluate, geometry, templates
from pose2seg_jax.predictor import letterbox_image

_PERSONS = (1, 2, 4, 8, 16, 32, 60)
_REPEATS = 7
_FOLDER = 40  # images


def random_poses(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """(P, 17, 3): the first template, somewhere in the image."""
    shape = templates.load()[0]
    scale = rng.uniform(0.2, 0.5, (count, 1, 1)) * height
    points = shape[None, :, :2] * scale + rng.uniform(0, 0.5, (count, 1, 2)) * [width, height]
    return np.concatenate([points, np.full((count, 17, 1), 2)], axis=-1)


def _network_alone(predictor: Pose2SegPredictor, image: np.ndarray, poses: np.ndarray) -> Any:
    """A call of the network without the parts around it."""
    network = predictor.network
    canvas = letterbox_image(image, network.image_size)[None]
    to_canvas = np.asarray(
        geometry.letterbox(np.asarray(image.shape[:2], np.float32), network.image_size)
    )
    alignment = predictor.rois(predictor.encode(image), poses).alignment
    matrices = geometry.compose(alignment.matrix, geometry.invert(to_canvas))
    placed = geometry.apply_to_poses(to_canvas, poses.astype(np.float32))
    index, valid = np.zeros(len(poses), np.int32), np.ones(len(poses), bool)
    run: Any = jax.jit(network.model.apply)
    return lambda: run(
        predictor.variables, canvas, placed, matrices, index, valid
    ).block_until_ready()


def _folder(predictor: Pose2SegPredictor, dataset: coco.Dataset) -> float:
    """Images a second, from file to RLE, of the first images of the validation split."""
    images = dataset.path.parent.parent / "val2017"
    some = dataset.human[:_FOLDER]
    start = time.perf_counter()
    for image in some:
        picture = np.asarray(PIL.Image.open(images / image.file_name).convert("RGB"))
        predictor(picture, np.stack([person.pose for person in image.posed]))
    return len(some) / (time.perf_counter() - start)


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--weights", type=pathlib.Path, help="default: an untrained network")
    options = parser.parse_args()
    config = rows.load_config(options)
    predictor = Pose2SegPredictor.from_weights(rows.network(config, options.weights))
    rng = np.random.default_rng(0)
    height, width = 480, 640
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    part = f"prediction, {predictor.network.image_size} px"
    made, poses = [], {count: random_poses(rng, count, height, width) for count in _PERSONS}
    with rows.compile_durations("/jax/core/compile/backend_compile_duration") as compiled:
        for count in _PERSONS:
            start = time.perf_counter()
            predictor(image, poses[count])
            first = time.perf_counter() - start
            made.append(rows.Row(part, f"{count} persons, first call", first, "s"))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for count in _PERSONS:
        alone = _network_alone(predictor, image, poses[count])
        alone()
        times: list[tuple[float, float]] = []
        for _ in range(_REPEATS):  # in turns
            start = time.perf_counter()
            predictor(image, poses[count])
            middle = time.perf_counter()
            alone()
            times.append((middle - start, time.perf_counter() - middle))
        whole, network = np.median(times, axis=0).tolist()
        made.append(
            rows.Row(part, f"{count} persons, image to RLE", whole, "s", "network alone", network)
        )
    dataset = evaluate.validation(config)
    _folder(predictor, dataset)  # compiles what is left
    made.append(rows.Row(part, "a folder, file to RLE", _folder(predictor, dataset), "images/s"))
    made.append(rows.Row(part, "compilations of the first calls", len(compiled), ""))
    made.append(rows.Row(part, "largest memory after the first calls", memory, "MiB"))
    rows.publish(made, options)


if __name__ == "__main__":
    rows.run(main)
