"""The network of the CVPR 2019 version with the same weights: ours beside PyTorch and ONNX Runtime, in turns.

    pip install torch==2.13.0
    python -m benchmarks.peers [--persons 1 4 16] [--output=FILE.json]

From a photo of 640 x 480 and its poses to RLE. The ratio is their time over ours: above 1, ours is faster. Fitting the image
into its square and the way back to the image are ours everywhere, and for PyTorch alignment and Skeleton Features too. ONNX Runtime runs
all of our exported network. So what is compared is the backbone, reading the ROIs and the branch, where the time is. The masks must be equal (IoU of 0.999), or it ends with an error.
"""

import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pycocotools import mask as mask_utils

from benchmarks import exports, rows
from benchmarks.prediction import random_poses
from configs import coco_human_r50fpn
from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.alignment import geometry, policies, skeleton
from pose2seg_jax.alignment.affine_align import Alignment
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.models.layers import MEAN, STD
from pose2seg_jax.models.network_spec import STRIDE
from pose2seg_jax.people.parts import PAPER_LIMBS
from pose2seg_jax.prediction.network import Network, RoiPrediction, mask_score
from pose2seg_jax.prediction.results import Result
from pose2seg_jax.program import export
from pose2seg_jax.weights import convert
from pose2seg_jax.weights.files import Weights

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

_COUNTS = (1, 4, 16)
_SIZE = (480, 640)
_REPEATS = 7
_EQUAL = 0.999  # smallest IoU of a mask with ours


class Placed(NamedTuple):
    """What the network is given beside the image, for N persons.

    Attributes:
        alignment: of the persons.
        points: (N, R, R, 2), where the features are read, in [-1, 1] from edge to edge.
        skeletons: (N, R, R, C) Skeleton Features.
    """

    alignment: Any
    points: Any
    skeletons: Any


@functools.partial(jax.jit, static_argnums=(0, 2))
def place(spec: NetworkSpec, poses: Array, size: tuple[int, int]) -> Placed:
    """Aligns poses and draws their Skeleton Features; `size` is the (height, width) of the image."""
    sizes = jnp.broadcast_to(jnp.asarray([size], jnp.float32), (len(poses), 2))
    alignment = policies.align_persons(
        spec.policy, poses, None, spec.template_array, sizes, spec.roi_size,
        reflect=spec.reflect, convention=spec.convention,
    )  # fmt: skip
    to_canvas = spec.convention.letterbox(sizes, spec.image_size)
    matrices = geometry.compose(alignment.matrix, geometry.invert(to_canvas))
    side = spec.image_size // STRIDE
    from_features = spec.convention.from_features(matrices, STRIDE, side)
    grid = geometry.apply_to_grid(geometry.invert(from_features), spec.roi_size, spec.roi_size)
    placed = geometry.apply_to_poses(to_canvas, poses)
    placed = geometry.apply_to_poses(matrices, placed)
    drawn = skeleton.skeleton_features(placed, spec.roi_size, spec.limbs or PAPER_LIMBS)
    return Placed(alignment, jnp.stack(grid, axis=-1) * 2 / side - 1, drawn)


@functools.partial(jax.jit, static_argnums=0)
def _finish(spec: NetworkSpec, logits: Array, alignment: Any) -> RoiPrediction:
    probabilities: Array = jax.nn.sigmoid(logits)
    scores = mask_score(probabilities)
    probabilities, matrix = spec.convention.pad_roi(probabilities, alignment.matrix)
    return RoiPrediction(probabilities, scores, alignment._replace(matrix=matrix))


class _TorchNetwork:
    """The way from an image and poses to probabilities in the ROIs, with the parts in PyTorch."""

    def __init__(self, network: Network, backbone: Any, branch: Any):
        self._network, self._backbone, self._branch = network, backbone, branch
        self._mean, self._std = (torch.tensor(values) for values in (MEAN, STD))

    def __call__(self, image: np.ndarray, poses: np.ndarray) -> RoiPrediction:
        spec = self._network.spec
        placed = place(spec, poses.astype(np.float32), _SIZE)
        canvas = torch.from_numpy(self._network.letterbox_image(image))
        with torch.inference_mode():
            pixels = ((canvas - self._mean) / self._std).permute(2, 0, 1)[None]
            maps = self._backbone(pixels)  # its channels are last, as those of the canvas
            points = torch.from_numpy(np.array(placed.points))
            rois = [
                torch.nn.functional.grid_sample(maps, own[None], align_corners=False)
                for own in points
            ]
            drawn = torch.from_numpy(np.array(placed.skeletons)).permute(0, 3, 1, 2)
            given = torch.cat([torch.cat(rois), drawn], dim=1)
            logits = self._branch(given.contiguous(memory_format=torch.channels_last))
            logits = logits[:, 1] - logits[:, 0]
        return jax.device_get(_finish(spec, logits.numpy(), placed.alignment))


def _torch_networks(network: Network, backbone: Any, branch: Any) -> dict[str, Any]:
    """PyTorch as it is used well, in inference mode and with channels last; and compiled."""
    last = {"memory_format": torch.channels_last}
    backbone, branch = backbone.to(**last), branch.to(**last)
    compiled = (torch.compile(part, dynamic=False) for part in (backbone, branch))
    return {
        "PyTorch": _TorchNetwork(network, backbone, branch),
        "PyTorch, compiled": _TorchNetwork(network, *compiled),
    }


def _onnx_network(predictor: Pose2SegPredictor, folder: pathlib.Path) -> Callable[..., Any]:
    export.write(predictor.network, predictor.variables, "onnx", folder)
    runners = exports.onnx_runners(folder)
    size = np.asarray(_SIZE, np.float32)

    def run(image: np.ndarray, poses: np.ndarray) -> RoiPrediction:
        canvas = predictor.network.letterbox_image(image)[None]
        given = canvas, poses.astype(np.float32), size
        probabilities, scores, matrices = exports.rois(runners, "onnx", *given)
        unknown = np.zeros(len(poses), np.int32)  # the graph does not say which template it was
        return RoiPrediction(
            probabilities, scores, Alignment(matrices, unknown, unknown > 0, unknown)
        )

    return run


def _check_equal(name: str, found: Result, ours: Result) -> None:
    pairs = zip(found.rles, ours.rles, strict=True)
    worst = min(float(mask_utils.iou([a], [b], [0])[0, 0]) for a, b in pairs)
    if worst < _EQUAL:
        raise UserError(f"{name}: a mask has an IoU of {worst:.4f} with ours; the networks differ.")


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--persons", type=int, nargs="+", default=_COUNTS)
    options = parser.parse_args()
    if torch is None:
        raise UserError("needs PyTorch: pip install torch==2.13.0")
    from benchmarks import peer_network

    backbone, branch, made_up = peer_network.make()
    spec = NetworkSpec.from_config(coco_human_r50fpn.get_config().model)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        checkpoint = folder / "made_up.pth"
        torch.save({key: torch.from_numpy(values) for key, values in made_up.items()}, checkpoint)
        converted = convert.convert(spec, checkpoint, jax.random.key(0))
        made_for = {"made_for": "benchmarks"}
        predictor = Pose2SegPredictor.from_weights(
            Weights(spec, converted.variables, made_for), exclusive=False
        )
        others = _torch_networks(predictor.network, backbone, branch)
        others["ONNX Runtime"] = _onnx_network(predictor, folder)
        rng = np.random.default_rng(0)
        image = rng.integers(0, 255, (*_SIZE, 3), np.uint8)
        made = []
        for count in options.persons:
            poses = random_poses(rng, count, *_SIZE)

            def ours(poses: np.ndarray = poses) -> Result:
                return predictor(image, poses)

            def theirs(run: Callable[..., Any], poses: np.ndarray = poses) -> Result:
                return Result.from_rois(run(image, poses), _SIZE, poses, exclusive=False)

            runs = {name: functools.partial(theirs, run) for name, run in others.items()}
            for name, run in runs.items():
                _check_equal(name, run(), ours())
            own, *times = rows.in_turns(ours, *runs.values(), repeats=_REPEATS)
            made += [
                rows.Row("peers", f"{count} persons, {name}", taken, "s", "ours", own)
                for name, taken in zip(runs, times, strict=True)
            ]
    rows.publish(made, options)


if __name__ == "__main__":
    rows.run(main)
