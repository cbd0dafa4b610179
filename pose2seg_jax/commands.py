"""What the modes of main.py other than training do: read files, call the library, write files."""

import importlib.metadata
import json
import logging
import pathlib

import ml_collections
import numpy as np
import PIL.Image
from pycocotools import mask as mask_utils

from input_pipeline import coco
from input_pipeline.images import ImageError, open_image
from pose2seg_jax import evaluate as evaluation
from pose2seg_jax import parallel, run_record, train_state, visualize, weights
from pose2seg_jax import templates as pose_templates
from pose2seg_jax.checkpoints import Checkpoints
from pose2seg_jax.errors import UserError
from pose2seg_jax.geometry import Array
from pose2seg_jax.pose_formats import ImagePoses, read_poses
from pose2seg_jax.predictor import Network, letterbox_image
from pose2seg_jax.results import to_coco

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def templates(
    config: ml_collections.ConfigDict, annotations: str, split: str | None, output: str
) -> None:
    """Makes pose templates from COCO annotations and writes them as JSON."""
    dataset = coco.read(annotations)
    persons = dataset.persons(split=split)
    if not persons:
        of_split = f" of split '{split}'" if split else ""
        raise coco.CocoError(f"{annotations}: holds no person with a pose{of_split}.")
    made, shares = pose_templates.make_templates(
        np.stack([person.pose for person in persons]).astype(np.float64),
        np.stack([person.bbox for person in persons]),
        config.align.num_templates,
        config.seed,
    )
    made_by = {
        "command": f"python main.py --mode=templates --annotations={pathlib.Path(annotations).name}"
        + (f" --split={split}" if split else "")
        + f" --config.align.num_templates={config.align.num_templates} --output={pathlib.Path(output).name}",
        "persons": len(persons),
        "seed": config.seed,
    }
    pose_templates.save(output, made, shares, made_by)
    shown = ", ".join(f"{share:.1%}" for share in shares)
    print(f"{len(made)} templates of {len(persons)} persons ({shown} of them) written to {output}")


def evaluate(
    config: ml_collections.ConfigDict,
    workdir: str | None,
    poses: str | None,
    results: str | None,
    output: str | None,
    checkpoint: str = "latest",
) -> None:
    """Prints the table of a run, or of a results file, and writes the results."""
    if results:
        evaluated = evaluation.evaluate_file(config, results)
    else:
        assert workdir is not None
        state, made = restore(config, workdir, checkpoint)
        evaluated = evaluation.evaluate_model(config, state.variables, made, poses)
        path = pathlib.Path(output) if output else pathlib.Path(workdir) / "results.json"
        evaluation.save_results(path, evaluated.results)
        print(f"{len(evaluated.results)} masks written to {path}")
    print(evaluated.table())


def predict(
    config: ml_collections.ConfigDict,
    workdir: str,
    image: str,
    poses: str,
    output: str,
    checkpoint: str = "latest",
) -> None:
    """Writes a COCO results JSON and one overlay an image."""
    files = _image_files(image)
    matched = read_poses(poses, files, config.eval.part_score_threshold)
    state, made = restore(config, workdir, checkpoint)
    network = Network(config, state.variables, made)
    directory = pathlib.Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    results, skipped = [], 0
    try:
        for path in files:
            found = matched.get(path)
            if found is None:
                logging.warning(
                    "%s: %s holds no pose of this image; no mask is predicted.", path, poses
                )
                found = ImagePoses(path.stem, np.zeros((0, 17, 3), np.float32), None)
            try:
                picture = np.asarray(open_image(path, found.size).convert("RGB"))
            except ImageError as error:
                logging.warning("%s; skipped.", error)
                skipped += 1
                continue
            masks = _predict_image(network, picture, found.poses)
            results += [to_coco(found.image_id, *mask) for mask in masks]
            drawn = visualize.overlay(
                picture, [mask_utils.decode(mask.rle) for mask in masks], list(found.poses)
            )
            PIL.Image.fromarray(drawn).save(directory / f"{path.name}_overlay.png")
    finally:  # what is done is kept, whatever happens to the next image
        evaluation.save_results(directory / "results.json", results)
    if skipped:
        logging.warning("skipped %d of %d images.", skipped, len(files))
    print(f"{len(results)} masks and their overlays written to {directory}")


def export_weights(
    config: ml_collections.ConfigDict, workdir: str, output: str, checkpoint: str = "latest"
) -> None:
    """Writes a checkpoint of a run as one weights file."""
    state, made = restore(config, workdir, checkpoint)
    provenance = {
        "step": int(state.step),
        "trained_with": json.loads(config.to_json()),
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "flax")},
    }
    weights.save(output, config, state.variables, made, provenance)
    size = pathlib.Path(output).stat().st_size / 2**20
    print(f"step {int(state.step)} written to {output} ({size:.1f} MiB)")


def restore(
    config: ml_collections.ConfigDict, workdir: str, checkpoint: str = "latest"
) -> tuple[train_state.TrainState, Array]:
    """The state in a checkpoint of a run, and the run's templates.

    Raises:
        CheckpointError: there is none, or it does not fit the config.
    """
    checkpoints = Checkpoints(workdir, read_only=True)
    made = run_record.read(config, workdir)
    state, _ = checkpoints.restore(train_state.abstract_state(config), checkpoint)
    return state, made


def _predict_image(network: Network, picture: np.ndarray, poses: np.ndarray) -> list:
    devices = parallel.num_local_devices()
    canvas = letterbox_image(picture, network.image_size)
    images = np.broadcast_to(canvas, (devices, 1, *canvas.shape))
    sizes = np.broadcast_to(np.asarray(picture.shape[:2]), (devices, 1, 2))
    # Persons of the one image are dealt out over the devices.
    dealt = [[poses[device::devices]] for device in range(devices)]
    masks = network.predict(images, dealt, sizes)
    return [masks[i % devices][0][i // devices] for i in range(len(poses))]


def _image_files(image: str) -> list[pathlib.Path]:
    path = pathlib.Path(image)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in _IMAGE_SUFFIXES)
        if not files:
            raise UserError(f"{path}: holds no image ({', '.join(sorted(_IMAGE_SUFFIXES))}).")
        return files
    if not path.exists():
        raise UserError(f"{path}: does not exist; --image takes an image file or a directory.")
    return [path]
