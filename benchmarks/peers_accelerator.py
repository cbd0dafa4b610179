"""The network of the CVPR 2019 version on an accelerator: ours beside PyTorch, with the same weights, in turns.

    python -m benchmarks.peers_accelerator [--images 1 16] [--persons 4] [--output=FILE.json]

From letterboxed images and poses on the device to probabilities in the ROIs on the device. Ours aligns the poses and draws the
Skeleton Features too; PyTorch is given both. The ratio is their time over ours: above 1, ours is faster. "TFLOP/s" are the
operations of our program over its time, beside those of a large matrix product. Convolutions in float32 use TF32 in both.
"""

import concurrent.futures
import functools
import pathlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import rows
from benchmarks.peers import place
from benchmarks.prediction import random_poses
from benchmarks.training import matrix_rate
from configs import coco_human_r50fpn
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.models.layers import MEAN, STD
from pose2seg_jax.prediction.network import Network, predict_rois
from pose2seg_jax.weights import convert

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

_DTYPES = ("bfloat16", "float32")
_REPEATS = 15
_EQUAL = 1e-3  # in float32, masks differ in at most such a share of the cells


def _ours(network: Network, variables: Any, images: int, persons: int) -> Any:
    """Compiles the network for so many images with so many persons in each."""
    spec = network.spec
    count = images * persons
    index = np.repeat(np.arange(images, dtype=np.int32), persons)
    sizes = np.full((count, 2), spec.image_size, np.float32)

    @jax.jit
    def run(variables: Any, canvas: jax.Array, poses: jax.Array) -> Array:
        features = network.encode(variables, canvas)
        rois = predict_rois(
            network, variables, features, poses, sizes, index, jnp.ones(count, bool)
        )
        border = (rois.probabilities.shape[1] - spec.roi_size) // 2  # see `pad_roi`
        inner = slice(border, border + spec.roi_size)
        return rois.probabilities[:, inner, inner]

    canvas = jax.ShapeDtypeStruct((images, spec.image_size, spec.image_size, 3), np.uint8)
    poses = jax.ShapeDtypeStruct((count, 17, 3), np.float32)
    return run.lower(variables, canvas, poses).compile()


class _TorchNetwork:
    """Backbone, reading of the ROIs and branch in PyTorch."""

    def __init__(self, backbone: Any, branch: Any, dtype: str, persons: int):
        self._backbone, self._branch = backbone, branch
        self._dtype, self._persons = getattr(torch, dtype), persons
        self._mean, self._std = (torch.tensor(values, device="cuda") for values in (MEAN, STD))

    def __call__(self, canvas: Any, points: Any, drawn: Any) -> Any:
        with torch.inference_mode():
            pixels = ((canvas - self._mean) / self._std).permute(0, 3, 1, 2)
            maps = self._backbone(pixels.to(self._dtype, memory_format=torch.channels_last))
            each = maps.repeat_interleave(self._persons, dim=0)
            rois = torch.nn.functional.grid_sample(
                each, points.to(self._dtype), align_corners=False
            )
            given = torch.cat([rois, drawn], dim=1).contiguous(memory_format=torch.channels_last)
            logits = self._branch(given)
            return torch.sigmoid((logits[:, 1] - logits[:, 0]).float())


def _torch_networks(backbone: Any, branch: Any, dtype: str, persons: int) -> dict[str, Any]:
    """PyTorch as it is used well: channels last, and compiled with CUDA graphs."""
    as_wanted = {
        "device": "cuda", "dtype": getattr(torch, dtype), "memory_format": torch.channels_last,
    }  # fmt: skip
    plain = _TorchNetwork(backbone.to(**as_wanted), branch.to(**as_wanted), dtype, persons)
    compiled = torch.compile(plain.__call__, dynamic=False, mode="reduce-overhead")
    return {"PyTorch": plain, "PyTorch, compiled": compiled}


def _difference(found: np.ndarray, ours: np.ndarray) -> float:
    """The share of the cells of the ROIs that lie in one mask and not in the other."""
    return float(np.mean((found > 0.5) != (ours > 0.5)))


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=(16, 1))
    parser.add_argument("--persons", type=int, default=4, help="in each image")
    options = parser.parse_args()
    if torch is None or not torch.cuda.is_available():
        raise UserError("needs PyTorch and a GPU: pip install torch==2.13.0")
    from benchmarks import peer_network

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    _, _, made_up = peer_network.make()
    spec = NetworkSpec.from_config(coco_human_r50fpn.get_config().model)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = pathlib.Path(folder) / "made_up.pth"
        torch.save({key: torch.from_numpy(values) for key, values in made_up.items()}, checkpoint)
        variables = jax.device_put(convert.convert(spec, checkpoint, jax.random.key(0)).variables)
    networks = {dtype: Network(spec, dtype, exclusive=False) for dtype in _DTYPES}
    pool = concurrent.futures.ThreadPoolExecutor(4)
    programs = {
        (images, dtype): pool.submit(_ours, networks[dtype], variables, images, options.persons)
        for images in options.images
        for dtype in _DTYPES
    }
    rng, made = np.random.default_rng(0), []
    for (images, dtype), future in programs.items():
        canvas = rng.integers(0, 255, (images, spec.image_size, spec.image_size, 3), np.uint8)
        poses = random_poses(rng, images * options.persons, *canvas.shape[1:3]).astype(np.float32)
        known = place(spec, poses, canvas.shape[1:3])
        given = [torch.from_numpy(np.array(values)).cuda() for values in (canvas, known.points)]
        given.append(torch.from_numpy(np.array(known.skeletons)).permute(0, 3, 1, 2).cuda().to(getattr(torch, dtype)))  # fmt: skip
        theirs = _torch_networks(*peer_network.make()[:2], dtype, options.persons)
        for network in theirs.values():
            network(*given)
        program = future.result()
        placed = jax.device_put((canvas, poses))
        run = functools.partial(lambda p, g: jax.block_until_ready(p(variables, *g)), program, placed)  # fmt: skip

        def their(network: Any, given: Any = given) -> Any:
            result = network(*given)
            torch.cuda.synchronize()
            return result

        expected = np.asarray(run())
        for name, network in theirs.items():
            share = _difference(their(network).cpu().numpy(), expected)
            print(f"{images} images, {dtype}, {name}: {share:.2%} of the cells differ", flush=True)
            if dtype == "float32" and share > _EQUAL:
                raise UserError(f"{name}: the networks differ.")
        calls = [functools.partial(their, network) for network in theirs.values()]
        own, *times = rows.in_turns(run, *calls, repeats=_REPEATS)
        what = f"{images} images of {options.persons} persons, {dtype}"
        for name, taken in zip(theirs, times, strict=True):
            made.append(rows.Row("peers", f"{what}, {name}", 1000 * taken, "ms", "ours", 1000 * own))  # fmt: skip
        flops = program.cost_analysis()["flops"] / own / 1e12
        made.append(rows.Row("peers", f"{what}, ours", images / own, "images/s"))
        rate = matrix_rate(dtype) / 1e12
        made.append(rows.Row("peers", f"{what}, ours", flops, "TFLOP/s", "a matrix product", rate))
        print(rows.text_table(made[-4:]), flush=True)
    rows.publish(made, options)


if __name__ == "__main__":
    rows.run(main)
