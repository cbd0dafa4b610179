"""What the exported networks are worth: size, difference from JAX, time, in one run.

    python -m benchmarks.exports --coco_dir=COCO

The first persons of the validation split, image by image. The reference of a time is JAX in the same run, in turns.
"""

import functools
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from pycocotools import mask as mask_utils

from benchmarks import rows
from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.alignment.affine_align import Alignment
from pose2seg_jax.people import coco, coco_layout
from pose2seg_jax.people.images import open_image
from pose2seg_jax.prediction.network import RoiPrediction
from pose2seg_jax.prediction.results import Result
from pose2seg_jax.program import data, export

_PERSONS = 50
_COUNTS = (1, 4, 16)
_REPEATS = 5
# name of a graph -> a function of its inputs
_Runners = dict[str, Callable[..., Sequence[np.ndarray]]]


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    config = rows.load_config(options)
    dataset = data.validation(config)
    photos = pathlib.Path(coco_layout.image_directory(data.coco_directory(config), "validation"))
    predictor = Pose2SegPredictor.load()
    made = []
    for kind, chosen in export.FORMATS.items():
        with tempfile.TemporaryDirectory() as folder:
            written = pathlib.Path(folder)
            export.write(predictor.network, predictor.variables, kind, written)
            size = sum(path.stat().st_size for path in written.glob(f"*{chosen.suffix}"))
            runners = _RUNNERS[kind](written)
            made.append(rows.Row(kind, "size of all graphs", size / 2**20, "MiB"))
            made += _differences(kind, runners, predictor, dataset, photos)
            made += _times(kind, runners, predictor)
    rows.publish(made, options)


def rois(runners: _Runners, kind: str, canvas: np.ndarray, poses: np.ndarray, size: Any) -> list:
    """Runs the graphs of a format on a letterboxed image: probabilities in the ROIs, scores, matrices to the ROIs."""
    features = runners["encode"](canvas)
    if not export.FORMATS[kind].any_number:
        parts = [runners["segment"](*features, pose[None], size) for pose in poses]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]
    return list(runners["segment"](*features, poses, size))


def _differences(
    kind: str, runners: _Runners, predictor: Any, dataset: coco.Dataset, photos: pathlib.Path
) -> list:
    largest, ious, seen = 0.0, [], 0
    for image in dataset.posed_images:
        if seen >= _PERSONS:
            break
        poses = np.stack([person.pose for person in image.posed])
        pixels = np.asarray(open_image(photos / image.file_name).convert("RGB"))
        size = pixels.shape[:2]
        expected = predictor.rois(predictor.encode(pixels), poses)
        canvas = predictor.network.letterbox_image(pixels)[None]
        given = (canvas, poses.astype(np.float32), np.asarray(size, np.float32))
        probabilities, scores, matrices = rois(runners, kind, *given)
        largest = max(largest, float(np.abs(probabilities - expected.probabilities).max()))
        alignment: Alignment = expected.alignment._replace(matrix=matrices)
        found = RoiPrediction(probabilities, scores, alignment)
        masks = [Result.from_rois(r, size, poses, exclusive=True).rles for r in (found, expected)]
        ious += [float(mask_utils.iou([a], [b], [0])[0, 0]) for a, b in zip(*masks, strict=True) if mask_utils.area(b)]  # fmt: skip
        seen += len(poses)
    return [
        rows.Row(kind, f"largest difference of a probability, {seen} persons", largest, ""),
        rows.Row(kind, "mean IoU of the masks with those of JAX", float(np.mean(ious)), ""),
        rows.Row(kind, "smallest IoU", float(np.min(ious)), ""),
    ]


def _times(kind: str, runners: _Runners, predictor: Any) -> list:
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 255, (480, 640, 3), np.uint8)
    size, canvas = np.asarray([480, 640], np.float32), predictor.network.letterbox_image(pixels)
    made = []
    for count in _COUNTS:
        poses = np.concatenate(
            [rng.uniform(50, 430, (count, 17, 2)), np.full((count, 17, 1), 2)], -1
        )
        poses = poses.astype(np.float32)

        def plain(poses: np.ndarray = poses) -> Any:
            return predictor.rois(predictor.encode(pixels), poses)

        exported = functools.partial(rois, runners, kind, canvas[None], poses, size)
        ours, others = rows.in_turns(plain, exported, repeats=_REPEATS)
        made.append(rows.Row(kind, f"image to ROIs, {count} persons", others, "s", "JAX", ours))
    return made


def _stablehlo(folder: pathlib.Path) -> _Runners:
    found: _Runners = {}
    for path in folder.glob("*.stablehlo"):
        call: Any = jax.jit(jax_export.deserialize(bytearray(path.read_bytes())).call)
        found[path.stem] = lambda *given, call=call: jax.device_get(call(*given))
    return found


def onnx_runners(folder: pathlib.Path) -> _Runners:
    """Returns the exported graphs of a folder as functions of arrays, in ONNX Runtime."""
    import onnxruntime

    found: _Runners = {}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of each constant that it removes
    for path in folder.glob("*.onnx"):
        session = onnxruntime.InferenceSession(path, options)
        names = [known.name for known in session.get_inputs()]
        found[path.stem] = lambda *given, session=session, names=names: session.run(None, dict(zip(names, given, strict=True)))  # fmt: skip
    return found


def _tflite(folder: pathlib.Path) -> _Runners:
    import tensorflow as tf

    found: _Runners = {}
    for path in folder.glob("*.tflite"):
        interpreter = tf.lite.Interpreter(str(path), num_threads=2)
        interpreter.allocate_tensors()

        def run(*given: np.ndarray, interpreter: Any = interpreter) -> list[np.ndarray]:
            for known, values in zip(interpreter.get_input_details(), given, strict=True):
                interpreter.set_tensor(known["index"], values)
            interpreter.invoke()
            return [interpreter.get_tensor(k["index"]) for k in interpreter.get_output_details()]

        found[path.stem] = run
    return found


_RUNNERS: dict[str, Callable[[pathlib.Path], _Runners]] = {
    "onnx": onnx_runners,
    "stablehlo": _stablehlo,
    "tflite": _tflite,
}


if __name__ == "__main__":
    rows.run(main)
