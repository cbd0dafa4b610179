"""What prediction costs: first call, later calls beside the network alone, compilations, memory.

    python -m benchmarks.prediction --coco_dir=COCO [--weights=FILE.safetensors]

From image to RLE; the network alone is its jitted module on the letterboxed image and the alignment
that the predictor found. Poses are random: time does not depend on them.
"""

import contextlib
import functools
import io
import pathlib
import resource
import tempfile
import time
from typing import Any

import jax
import numpy as np

from benchmarks import rows
from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.alignment import geometry, templates
from pose2seg_jax.people import coco
from pose2seg_jax.people.images import open_image
from pose2seg_jax.prediction.predictor import EncodedImage
from pose2seg_jax.program import data, photos, pose_source
from pose2seg_jax.program.job import Job
from pose2seg_jax.program.predict import Prediction

_PERSONS = (1, 2, 4, 8, 16, 32, 60)
_REPEATS = 7
_FOLDER = 200  # images
# The backbone, and chunks of 1, 2, 4, 8, 16 and 32 persons, or on a CPU of 1, 2 and 4.
_PARTS = {"cpu": 4}.get(jax.default_backend(), 7)


def _memory() -> float:
    """The most that the process has used so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def random_poses(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """(P, 17, 3): the first template, somewhere in the image."""
    shape = templates.load()[0]
    scale = rng.uniform(0.2, 0.5, (count, 1, 1)) * height
    points = shape[None, :, :2] * scale + rng.uniform(0, 0.5, (count, 1, 2)) * [width, height]
    return np.concatenate([points, np.full((count, 17, 1), 2)], axis=-1)


def _network_alone(predictor: Pose2SegPredictor, image: np.ndarray, poses: np.ndarray) -> Any:
    """A call of the network without the parts around it."""
    network = predictor.network
    canvas = network.letterbox_image(image)[None]
    spec = network.spec
    to_canvas = np.asarray(spec.convention.letterbox(np.asarray(image.shape[:2]), spec.image_size))
    alignment = predictor.rois(predictor.encode(image), poses).alignment
    matrices = geometry.compose(alignment.matrix, geometry.invert(to_canvas))
    placed = geometry.apply_to_poses(to_canvas, poses.astype(np.float32))
    index, valid = np.zeros(len(poses), np.int32), np.ones(len(poses), bool)
    run: Any = jax.jit(network.model.apply)
    arguments = (predictor.variables, canvas, placed, matrices, index, valid)
    return lambda: jax.block_until_ready(run(*arguments))


def _folder(predictor: Pose2SegPredictor, dataset: coco.Dataset) -> tuple[float, float]:
    """Images a second of the validation split, from file to RLE, and through the network alone."""
    images = dataset.path.parent.parent / "val2017"
    some = dataset.posed_images[:_FOLDER]
    found = photos.find([str(images / image.file_name) for image in some])
    source = pose_source.open_source(str(dataset.path), found, pose_source.Options(), [])
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
        job = Job(pathlib.Path(output), {}, overwrite=False)
        start = time.perf_counter()
        Prediction([predictor], source, job, ["coco"]).run(found, "annotations")
        whole = time.perf_counter() - start
    encode = jax.jit(predictor.network.encode)
    network = 0.0
    for image in some:
        poses = np.stack([person.pose for person in image.posed])
        picture = np.asarray(open_image(images / image.file_name).convert("RGB"))
        canvas = predictor.network.letterbox_image(picture)[None]
        start = time.perf_counter()
        features: Any = encode(predictor.variables, canvas)
        predictor.rois(EncodedImage(features, picture.shape[:2]), poses)
        network += time.perf_counter() - start
    return len(some) / whole, len(some) / network


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--weights", type=pathlib.Path, help="default: an untrained network")
    parser.add_argument("--persons", type=int, nargs="+", help="these counts only, and no folder")
    options = parser.parse_args()
    counts = options.persons or _PERSONS
    config = rows.load_config(options)
    predictor = Pose2SegPredictor.from_weights(rows.network(config, options.weights))
    rng = np.random.default_rng(0)
    height, width = 480, 640
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    part = f"prediction, {predictor.network.spec.image_size} px"
    before = _memory()
    made, poses = [], {count: random_poses(rng, count, height, width) for count in counts}
    first = {}
    with rows.compile_durations("/jax/core/compile/backend_compile_duration") as compiled:
        for count in counts:
            start = time.perf_counter()
            predictor(image, poses[count])
            first[count] = time.perf_counter() - start
    memory = _memory()
    for count in counts:
        whole, network = rows.in_turns(
            functools.partial(predictor, image, poses[count]),
            _network_alone(predictor, image, poses[count]),
            repeats=_REPEATS,
        )
        what = f"{count} persons"
        made += [
            rows.Row(part, f"{what}, image to RLE", whole, "s", "network alone", network),
            rows.Row(part, f"{what}, first call", first[count], "s", "later calls", whole),
        ]
    if not options.persons:
        dataset = data.validation(config)
        _folder(predictor, dataset)  # compiles what is left
        rate, network_rate = _folder(predictor, dataset)
        what = "a folder, file to RLE"
        made.append(rows.Row(part, what, rate, "images/s", "network alone", network_rate))
    parts = None if options.persons else _PARTS
    made += [
        rows.Row(part, "compilations of the first calls", len(compiled), "", "parts", parts),
        rows.Row(part, "largest memory after the first calls", memory, "MiB", "before", before),
    ]
    rows.publish(made, options)


if __name__ == "__main__":
    rows.run(main)
