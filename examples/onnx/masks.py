"""Masks of the people in a photo with numpy, pillow and onnxruntime; no JAX.

python main.py --mode=export --format=onnx --output=EXPORT      # once, where pose2seg_jax is
python examples/onnx/masks.py EXPORT photo.jpg masks.png
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime
import PIL.Image
import PIL.ImageOps


def letterbox(image: PIL.Image.Image, side: int) -> np.ndarray:
    """The photo, fitted into a black square: (1, side, side, 3) uint8."""
    longest = max(image.size)
    size = [max((2 * n * side + longest) // (2 * longest), 1) for n in image.size]
    canvas = np.asarray(image.resize(size, PIL.Image.Resampling.BILINEAR), np.float32)
    for axis in (0, 1):
        rest = side - canvas.shape[axis]
        if rest % 2:  # by half a pixel: the mean of two neighbours
            wide = np.pad(canvas, [(int(axis == a),) * 2 for a in range(3)], mode="edge")
            first, last = np.arange(wide.shape[axis] - 1), np.arange(1, wide.shape[axis])
            canvas = (wide.take(first, axis) + wide.take(last, axis)) / 2
        canvas = np.pad(canvas, [(rest // 2 * (axis == a),) * 2 for a in range(3)])
    return np.round(canvas).astype(np.uint8)[None]


def main(export: str, photo: str, output: str) -> None:
    """Writes a picture of numbers: 0 for nobody, 1, 2, ... for the people."""
    onnxruntime.set_default_logger_severity(3)  # errors only
    folder = pathlib.Path(export)
    about = json.loads((folder / "metadata.json").read_text())
    if about["sampling"] != "pixel_centers" or "poses" not in about["graphs"]:
        sys.exit(
            f"{export}: this example is for networks that read at pixel centres, of poses by MoveNet"
        )
    encode, segment, poses = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("encode", "segment", "poses"))  # fmt: skip
    image = PIL.ImageOps.exif_transpose(PIL.Image.open(photo)).convert("RGB")
    size = np.asarray([image.height, image.width], np.float32)
    points, part_scores, scores = poses.run(None, {"image": letterbox(image, about["pose_image_size"]), "size": size})  # fmt: skip
    people = scores >= about["person_score_threshold"]
    visible = np.where(part_scores >= about["part_score_threshold"], 2, 0)[..., None]
    given = np.concatenate([points, visible], -1)[people].astype(np.float32)
    labels = np.zeros((image.height, image.width), np.uint8)
    if not len(given):
        PIL.Image.fromarray(labels).save(output)
        print(f"nobody was found in {photo}; {output} is empty")
        return
    features = encode.run(None, {"image": letterbox(image, about["image_size"])})
    inputs = {f"features{i}": values for i, values in enumerate(features)}
    found, _, matrices = segment.run(None, {**inputs, "poses": given, "size": size})
    surest = np.zeros(labels.shape, np.float32)
    for number, (roi, matrix, score) in enumerate(zip(found, matrices, scores[people], strict=True), 1):  # fmt: skip
        how = PIL.Image.Transform.AFFINE, tuple(matrix.ravel()), PIL.Image.Resampling.BILINEAR
        probability = np.asarray(PIL.Image.fromarray(roi).transform(image.size, *how))
        takes = (probability > 0.5) & (probability * score > surest)
        labels[takes], surest[takes] = number, (probability * score)[takes]
    PIL.Image.fromarray(labels).save(output)
    print(f"{len(given)} people in {output}")


if __name__ == "__main__":
    main(*sys.argv[1:])
