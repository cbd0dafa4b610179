"""What the modes of main.py other than training do: read files, call the library, write files."""

import hashlib
import importlib.metadata
import json
import logging
import pathlib

import ml_collections
import numpy as np
import PIL.Image

from pose2seg_jax.alignment import templates as pose_templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import evaluate as evaluation
from pose2seg_jax.people import coco
from pose2seg_jax.people.images import ImageError, open_image
from pose2seg_jax.people.pose_files import ImagePoses, read_poses
from pose2seg_jax.pictures import visualize
from pose2seg_jax.prediction import pose_estimators
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.training import run_record, train_state
from pose2seg_jax.training.checkpoints import Checkpoints
from pose2seg_jax.weights import convert
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights.files import Weights

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def templates(
    config: ml_collections.ConfigDict, annotations: str | None, split: str | None, output: str
) -> None:
    """Makes pose templates from COCO annotations, or the config's training split, as JSON."""
    if annotations is None:
        annotations = str(evaluation.annotation_file(config, "train"))
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
    trained: Weights,
    poses: str | None,
    output: str | None,
) -> None:
    """Prints the table of a trained network, and writes the results.

    Args:
        config: where the data is, and how it is evaluated; the network is that of `trained`.
        trained: the network.
        poses: COCO keypoint results in place of the annotated poses.
        output: file for the results, if any.
    """
    config = weights.with_network(config, trained)
    evaluated = evaluation.Evaluator(config, trained.templates, poses).run(trained.variables)
    if output:
        evaluation.save_results(output, evaluated.results)
        print(f"{len(evaluated.results)} masks written to {output}")
    print(evaluated.table())


def evaluate_file(config: ml_collections.ConfigDict, results: str) -> None:
    """Prints the table of another method's results file."""
    print(evaluation.evaluate_file(config, results).table())


def predict(
    config: ml_collections.ConfigDict,
    predictor: Pose2SegPredictor,
    image: str,
    poses: str,
    output: str,
) -> None:
    """Writes a COCO results JSON and one overlay an image; poses "auto" are estimated."""
    files = _image_files(image)
    threshold = config.eval.part_score_threshold
    estimate = pose_estimators.rtmo(score_threshold=threshold) if poses == "auto" else None
    matched = {} if estimate else read_poses(poses, files, threshold)
    directory = pathlib.Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    results, skipped = [], 0
    try:
        for path in files:
            found = matched.get(path)
            if found is None:
                if not estimate:
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
            found_poses = estimate(picture) if estimate else found.poses
            result = predictor(picture, found_poses)
            results += result.to_coco(found.image_id)
            drawn = visualize.overlay(picture, result.rles, found_poses)
            PIL.Image.fromarray(drawn).save(directory / f"{path.name}_overlay.png")
    finally:  # what is done is kept, whatever happens to the next image
        evaluation.save_results(directory / "results.json", results)
    if skipped:
        logging.warning("skipped %d of %d images.", skipped, len(files))
    print(f"{len(results)} masks and their overlays written to {directory}")


def report(
    config: ml_collections.ConfigDict, workdir: str, output: str, checkpoint: str = "latest"
) -> None:
    """Writes an HTML page about a run, and prints its table."""
    from pose2seg_jax.evaluation import report as page

    trained = restore(config, workdir, checkpoint)
    predictor = Pose2SegPredictor.from_weights(trained)
    evaluator = evaluation.Evaluator(config, trained.templates)
    evaluated, dataset = evaluator.run(trained.variables), evaluator.dataset
    page.write(
        output,
        predictor,
        dataset,
        dataset.path.parent.parent / "val2017",
        evaluated,
        workdir,
        f"Step {trained.provenance['step']} of {config.num_steps}, {config.batch_size} images a step,"
        f" {config.dataset.image_size} px; scored on the {len(dataset.persons())} people of"
        f" {dataset.path}.",
    )
    print(f"page with pictures: {output}")
    print(evaluated.table())


def export_weights(
    config: ml_collections.ConfigDict, workdir: str, output: str, checkpoint: str = "latest"
) -> None:
    """Writes a checkpoint of a run as one weights file."""
    trained = restore(config, workdir, checkpoint)
    provenance = {
        **trained.provenance,
        "trained_with": json.loads(config.to_json()),
        "versions": _versions(),
    }
    weights.save(output, config, trained.variables, trained.templates, provenance)
    size = pathlib.Path(output).stat().st_size / 2**20
    print(f"step {provenance['step']} written to {output} ({size:.1f} MiB)")


def convert_weights(config: ml_collections.ConfigDict, source: str, output: str) -> None:
    """Writes the weights of a PyTorch checkpoint as one weights file."""
    converted = convert.convert(config, source)
    made = pose_templates.load(config.align.templates)
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = {
        "converted_from": {"file": pathlib.Path(source).name, "sha256": digest},
        "kind": converted.kind,
        "versions": _versions(),
    }
    weights.save(output, config, converted.variables, made, provenance)
    print(f"{converted.kind} written to {output}")
    if converted.unused:
        print(f"not used: {', '.join(converted.unused)}")


def restore(config: ml_collections.ConfigDict, workdir: str, checkpoint: str = "latest") -> Weights:
    """The network in a checkpoint of a run.

    Raises:
        CheckpointError: there is none, or it does not fit the config.
    """
    checkpoints = Checkpoints(workdir, read_only=True)
    made = run_record.read(config, workdir)
    state, _ = checkpoints.restore(train_state.abstract_state(config), checkpoint)
    return Weights(config, state.variables, made, {"step": int(state.step)})


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("jax", "flax")}


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
