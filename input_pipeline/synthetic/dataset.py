"""Writes generated scenes as a COCO-layout directory."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import multiprocessing
import pathlib
import shutil
import tempfile
from typing import Any

import ml_collections
import numpy as np
import PIL.Image

from input_pipeline.synthetic import scene
from pose2seg_jax import paths, progress
from pose2seg_jax.errors import UserError

_SPLITS = {"train2017": 0, "val2017": 1}
_SHAPES = ((3, 4), (4, 3), (2, 3), (1, 1))  # height : width
_VERSION = 3  # of what a seed stands for


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is generated; equal recipes give equal files.

    Attributes:
        train: images to train on.
        validation: images to validate on.
        size: longer side of the images in pixels.
        overlap: share of the images with two people close to sharing one box, who hide parts of each other.
        crowd: share of the images with a crowd in the distance.
        seed: of everything.
        plain: whether there are only one or two people who stand or walk, face the camera and are all in view.
    """

    train: int = 1000
    validation: int = 200
    size: int = 256
    overlap: float = 0.4
    crowd: float = 0.08
    seed: int = 0
    plain: bool = False

    def key(self) -> str:
        """Names the content."""
        text = json.dumps([_VERSION, dataclasses.asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def write(recipe: Recipe, directory: str | pathlib.Path, processes: int | None = None) -> None:
    """Writes `annotations/`, `train2017/` and `val2017/` below a directory that must not exist.

    It appears under its name when it is complete. Of several processes that write the same, one wins.

    Raises:
        UserError: the directory exists.
    """
    target = paths.local(directory, "a directory of generated people")
    if target.exists():
        raise UserError(f"{target}: exists already; name a directory that does not exist yet.")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write(recipe, partial, processes)
        partial.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was first, with the same content
            partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(recipe: Recipe, partial: pathlib.Path, processes: int | None) -> None:
    (partial / "annotations").mkdir()
    context = multiprocessing.get_context("spawn")  # the caller may have started threads
    with concurrent.futures.ProcessPoolExecutor(processes, context) as pool:
        for folder, count in (("train2017", recipe.train), ("val2017", recipe.validation)):
            (partial / folder).mkdir()
            make = functools.partial(_write_image, recipe, str(partial), folder)
            made = list(
                progress.show(pool.map(make, range(count), chunksize=8), folder, "image", count)
            )
            path = partial / "annotations" / f"person_keypoints_{folder}.json"
            path.write_text(json.dumps(_coco(recipe, folder, made)))


def coco_dir(dataset: ml_collections.ConfigDict) -> str | None:
    """The COCO-layout directory of a config's `dataset`; makes generated people that are missing.

    They are wanted where `dataset.synthetic` holds a recipe and no `coco_dir` is set, and are kept
    below `dataset.data_dir`, named by their recipe.
    """
    if dataset.coco_dir or "synthetic" not in dataset:
        return dataset.coco_dir
    recipe = Recipe(**dataset.synthetic)
    root = paths.local(dataset.data_dir or "~/tensorflow_datasets", "generated people")
    target = root / f"generated_people-{recipe.key()}"
    if not target.exists():
        count = recipe.train + recipe.validation
        print(f"makes {count} images of generated people in {target}", flush=True)
        write(recipe, target)
    return str(target)


def _write_image(
    recipe: Recipe, directory: str, folder: str, index: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng([recipe.seed, _SPLITS[folder], index])
    tall, wide = _SHAPES[rng.integers(len(_SHAPES))]
    height, width = (int(recipe.size * side / max(tall, wide)) for side in (tall, wide))
    made = scene.make_scene(
        rng,
        height,
        width,
        overlap=rng.random() < recipe.overlap,
        crowd=rng.random() < recipe.crowd,
        plain=recipe.plain,
    )
    image_id = 1_000_000 * (1 + _SPLITS[folder]) + index
    name = f"{image_id:012}.jpg"
    quality = int(rng.integers(70, 96))
    buffer = io.BytesIO()
    PIL.Image.fromarray(made.image).save(buffer, "JPEG", quality=quality)
    (pathlib.Path(directory) / folder / name).write_bytes(buffer.getvalue())
    entry = {"id": image_id, "file_name": name, "height": height, "width": width}
    return entry, [{**annotation, "image_id": image_id} for annotation in made.annotations]


def _coco(recipe: Recipe, folder: str, made: list) -> dict[str, Any]:
    annotations = [annotation for _, found in made for annotation in found]
    first = 1 + 10_000_000 * _SPLITS[folder]
    return {
        "info": {"description": "Generated people", "recipe": dataclasses.asdict(recipe)},
        "images": [entry for entry, _ in made],
        "annotations": [{"id": first + i, **entry} for i, entry in enumerate(annotations)],
        "categories": [{"id": 1, "name": "person"}],
    }
