"""Shared fixtures. Array shapes of the package are checked in all tests (jaxtyping + beartype)."""

import getpass
import os
import tempfile

# Before jax is imported: four CPU devices, for the tests of data parallelism; and little optimisation, since most tests run
# once what they compile.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# Most of the tests' time is compilation: once for all processes, and for the next run of the tests.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get(
    "JAX_COMPILATION_CACHE_DIR",
    os.path.join(tempfile.gettempdir(), f"pose2seg-jax-tests-{getpass.getuser()}"),
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import json
import pathlib

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from jaxtyping import install_import_hook

# The hook is not removed: the modules are imported later, by the tests.
install_import_hook(["pose2seg_jax", "input_pipeline"], "beartype.beartype")

pytest_plugins = ["pose_file_fixtures", "predictor_fixtures", "stream_fixtures"]

ROOT = pathlib.Path(__file__).resolve().parent.parent
_DATA = pathlib.Path(os.environ.get("POSE2SEG_TEST_DATA", ROOT.parent / "shared" / "data"))

# A standing person in the unit square: (x, y) of COCO's 17 parts.
STANDING = np.array(
    [
        [0.50, 0.10], [0.53, 0.08], [0.47, 0.08], [0.56, 0.10], [0.44, 0.10], [0.60, 0.24],
        [0.40, 0.24], [0.64, 0.38], [0.36, 0.38], [0.66, 0.50], [0.34, 0.50], [0.57, 0.52],
        [0.43, 0.52], [0.58, 0.72], [0.42, 0.72], [0.58, 0.93], [0.42, 0.93],
    ]
)  # fmt: skip


@pytest.fixture
def quick_compile():
    """Compiles without optimising, which halves the time of a test that runs a network once."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    if not _DATA.is_dir():
        pytest.skip(f"real data is not at {_DATA}; set POSE2SEG_TEST_DATA")
    return _DATA


@pytest.fixture(scope="session")
def real_dataset(data_dir):
    from pose2seg_jax.people import coco

    return coco.read(data_dir / "coco/annotations/person_keypoints_val2017.json")


@pytest.fixture(scope="session")
def real_poses(real_dataset) -> np.ndarray:
    return np.stack([person.pose for person in real_dataset.persons()])


def standing_pose(x: float, y: float, height: float) -> np.ndarray:
    """A pose (17, 3) whose unit square has its corner at (x, y)."""
    points = STANDING * height + [x, y]
    return np.concatenate([points, np.full((17, 1), 2.0)], axis=1).astype(np.float32)


def draw_person(draw: PIL.ImageDraw.ImageDraw, pose: np.ndarray, fill: object) -> None:
    """A body of thick limbs around a pose."""
    height = pose[15, 1] - pose[0, 1]
    width = max(int(height * 0.12), 3)
    points = [tuple(map(float, p[:2])) for p in pose]
    for a, b in [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)]:
        draw.line([points[a], points[b]], fill=fill, width=width)
    draw.polygon([points[i] for i in (5, 6, 12, 11)], fill=fill, outline=fill, width=width)
    x, y = points[0]
    draw.ellipse([x - width, y - width, x + width, y + width], fill=fill)


def write_coco(root: pathlib.Path, persons_per_image: dict[str, list[int]]) -> None:
    """A COCO-layout directory of drawn people: split folder -> persons of each image."""
    rng = np.random.RandomState(0)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    next_id = 1
    for folder, counts in persons_per_image.items():
        (root / folder).mkdir(exist_ok=True)
        images, annotations = [], []
        for index, count in enumerate(counts):
            image_id = 1000 * (1 + len(folder)) + index
            width, height = (160, 120) if index % 2 else (112, 144)
            noise = rng.randint(0, 120, (height, width, 3), np.uint8)
            picture = PIL.Image.fromarray(noise)
            name = f"{image_id:012}.jpg"
            images.append({"id": image_id, "file_name": name, "height": height, "width": width})
            for slot in range(count):
                side = rng.randint(70, 100)
                pose = standing_pose(8 + slot * 37 % (width - 60), 10 + rng.randint(0, 10), side)
                mask_image = PIL.Image.new("L", (width, height))
                draw_person(PIL.ImageDraw.Draw(mask_image), pose, 1)
                draw_person(PIL.ImageDraw.Draw(picture), pose, tuple(rng.randint(128, 255, 3)))
                mask = np.asarray(mask_image)
                annotations.append(_annotation(next_id, image_id, pose, mask))
                next_id += 1
            picture.save(root / folder / name, quality=95)
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "person"}],
        }
        (root / "annotations" / f"person_keypoints_{folder}.json").write_text(json.dumps(content))


def _annotation(person_id: int, image_id: int, pose: np.ndarray, mask: np.ndarray) -> dict:
    height, width = mask.shape
    inside = (pose[:, 0] < width) & (pose[:, 1] < height) & (pose[:, :2].min(1) >= 0)
    keypoints = np.where(inside[:, None], np.floor(pose), 0).astype(int)
    ys, xs = np.nonzero(mask)
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(inside.sum()),
        "bbox": [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1],
        "area": int(mask.sum()),
        "segmentation": {
            "size": [height, width],
            "counts": np.diff([0, *edges, flat.size]).tolist(),
        },
    }


def true_results(dataset, shift=0, seed=0):
    """The true masks of a data set as COCO results, shifted by up to `shift` pixels."""
    from pycocotools import mask as mask_utils

    rng = np.random.RandomState(seed)
    results = []
    for image in dataset.images:
        for person in image.posed:
            mask = mask_utils.decode(person.segmentation)
            if shift:
                mask = np.roll(mask, rng.randint(-shift, shift + 1, 2), (0, 1))
            rle = mask_utils.encode(np.asfortranarray(mask))
            rle["counts"] = rle["counts"].decode()
            results.append(
                {
                    "image_id": image.id,
                    "category_id": 1,
                    "segmentation": rle,
                    "score": float(rng.rand()),
                    "person_id": person.id,
                }
            )
    return results


@pytest.fixture
def coco_dir(tmp_path) -> pathlib.Path:
    """Eight training and five validation images, among them a crowd of seven."""
    root = tmp_path / "coco"
    write_coco(root, {"train2017": [1, 2, 1, 1, 3, 1, 1, 2], "val2017": [1, 7, 2, 1, 1]})
    return root


# Fields of configs/coco_human_small.py with which it trains in seconds.
TINY = {
    "batch_size": 4,
    "persons_per_batch": 4,
    "model.image_size": 64,
    "model.roi_size": 32,
    "model.backbone.features": 8,
    "model.backbone.depth": 1,
    "model.branch.features": 4,
    "model.branch.units": 1,
    "model.branch.depth": 1,
    "model.branch.head_features": 4,
    "log_every": 1,
    "checkpoint_every": 2,
    "eval.batch_size": 4,
    "eval.persons_per_batch": 4,
}


def tiny_flags(**changes: int) -> list[str]:
    """TINY for a command line; `changes` are top-level fields."""
    return [f"--config.{field}={value}" for field, value in (TINY | changes).items()]


def quick_environment(**changes: str) -> dict[str, str]:
    """Of a program that runs a few steps; it compiles as it would for a user, but shares what it compiles with the tests."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return environment | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | changes


def draw_masks(canvas) -> np.ndarray:
    """The masks of an `augment.Canvas` on the canvas, (N, S, S)."""
    from pose2seg_jax.alignment import sampling

    index, side = np.arange(len(canvas.masks)), canvas.images.shape[1]
    masks = np.unpackbits(canvas.masks, axis=-1)[..., None].astype(np.float32)
    drawn = sampling.align_to_roi(masks, index, canvas.matrices, side)
    return np.asarray(drawn[..., 0])


def count_compilations():
    """A context with a list that grows by one with every compilation, however small."""
    from benchmarks.rows import compile_durations

    return compile_durations("/jax/core/compile/backend_compile_duration")


def tiny_config(coco_dir: pathlib.Path, data_dir: pathlib.Path):
    """A config that trains in seconds."""
    from configs import coco_human_small

    config = coco_human_small.get_config()
    config.update_from_flattened_dict(TINY)
    config.num_steps = 4
    config.panels_every = 2
    config.dataset.coco_dir, config.dataset.data_dir = str(coco_dir), str(data_dir)
    return config


def tiny_spec(**fields: object):
    """The network of TINY, with other fields: `tiny_spec(roi_size=16)`, `tiny_spec(**{"branch.units": 2})`."""
    from pose2seg_jax.models import NetworkSpec

    return NetworkSpec.from_config(tiny_config("", "").model).with_fields(fields)


def random_weights(spec, seed: int = 0):
    """An untrained network, by NumPy: `init_variables` takes seconds to compile for every network."""
    from flax import traverse_util

    from pose2seg_jax.models.variables import variable_shapes
    from pose2seg_jax.weights.files import Weights

    rng = np.random.RandomState(seed)
    flat = {}
    for name, shape in traverse_util.flatten_dict(variable_shapes(spec), sep="/").items():
        kind = name.rsplit("/", 1)[-1]
        if kind == "kernel":
            values = rng.standard_normal(shape.shape) * np.sqrt(2 / np.prod(shape.shape[:-1]))
        else:  # of BatchNorm, and biases
            values = np.full(shape.shape, kind in ("scale", "var"))
        flat[name] = values.astype(np.float32)
    return Weights(spec, traverse_util.unflatten_dict(flat, sep="/"), {})


def tiny_weights(seed: int = 0, **fields: object):
    """An untrained network of `tiny_spec`."""
    return random_weights(tiny_spec(**fields), seed)


def drawn_batch(rng):
    """A `TrainBatch` of four images with up to two persons each; some slots are empty."""
    from pose2seg_jax.people.batches import TrainBatch

    poses = np.stack([standing_pose(rng.uniform(0, 20), rng.uniform(0, 10), 50) for _ in range(8)])
    masks = np.zeros((8, 256, 256), np.uint8)
    for mask, pose in zip(masks, poses, strict=True):
        x0, y0, x1, y1 = (*pose[:, :2].min(0), *pose[:, :2].max(0))
        mask[int(y0) : int(y1), int(x0) : int(x1)] = 1
    identity = np.asarray([[1, 0, 0], [0, 1, 0]], np.float32)
    return TrainBatch(
        frames=rng.randint(0, 255, (4, 80, 80, 3)).astype(np.uint8),
        to_frame=np.stack([identity] * 4),
        sizes=np.full((4, 2), 64, np.float32),
        views=np.full((4, 4), [0, 0, 64, 64], np.float32),
        example=np.arange(4, dtype=np.uint32),
        poses=poses,
        masks=np.packbits(masks.reshape(8, -1), axis=-1),
        to_mask=np.stack([identity] * 8),
        image_index=np.array([0, 0, 1, 1, 2, 2, 3, 3], np.int32),
        # Devices hold different numbers of persons.
        valid=np.array([1, 1, 1, 0, 0, 0, 1, 1], bool),
        person_key=np.arange(11, 19, dtype=np.uint32),
        image_poses=poses.reshape(4, 2, 17, 3),
        ignored=np.packbits(masks[::2].reshape(4, -1), axis=-1),
        to_ignored=np.stack([identity] * 4),
    )


def split_batch(batch, devices):
    """A batch with a leading axis of devices."""
    split = type(batch)(*(v.reshape(devices, -1, *v.shape[1:]) for v in batch))
    return split._replace(image_index=split.image_index % split.frames.shape[1])


def augment_options(config):
    """The options of a config's augmentation."""
    from pose2seg_jax.training.options import TrainOptions

    return TrainOptions.from_config(config).augment


def command(mode: str, config=None, overrides: dict | None = None, **values: object):
    """A `flags.Command`; the config counts as named on the command line where one is given."""
    from configs import coco_human
    from pose2seg_jax.program import flags

    names = {name for m in flags.MODES.values() for name in (*m.needs, *m.takes)}
    given = dict.fromkeys(names) | {
        name: str(value) if isinstance(value, pathlib.Path) else value
        for name, value in values.items()
    }
    if given["image"] is not None and not isinstance(given["image"], list):
        given["image"] = [given["image"]]
    named, defaults = config is not None, config or coco_human.get_config()
    changed = defaults.copy_and_resolve_references()
    changed.update_from_flattened_dict(overrides or {})
    made = flags.Command(mode, changed, defaults, named, overrides or {}, given)
    flags.check(made)
    return made


def photos_with_poses(
    folder: pathlib.Path, poses: dict[str, np.ndarray], size: tuple[int, int] = (50, 40)
) -> dict[str, pathlib.Path]:
    """A network, a PNG of each name, a file of their poses, and a place for results: what `predict` needs."""
    from pose2seg_jax.weights import files as weights

    weights.save(folder / "tiny.safetensors", tiny_weights())
    (folder / "photos").mkdir()
    for name in poses:
        PIL.Image.new("RGB", size).save(folder / f"photos/{name}.png")
    np.savez(folder / "poses.npz", **{name: pose[None] for name, pose in poses.items()})
    return {
        "weights": folder / "tiny.safetensors", "image": folder / "photos",
        "poses": folder / "poses.npz", "output": folder / "out",
    }  # fmt: skip


def run_mode(mode: str, config=None, overrides: dict | None = None, **values: object):
    """Runs a mode of main.py in this process."""
    from pose2seg_jax.program import modes

    return getattr(modes, {"eval": "evaluate", "templates": "make_templates"}.get(mode, mode))(
        command(mode, config, overrides, **values)
    )
