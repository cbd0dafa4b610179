"""One function a mode of main.py: it opens files and data, calls the library and writes files."""

import hashlib
import importlib.metadata
import logging
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import ml_collections
import numpy as np

from pose2seg_jax import parallel, paths, progress, random_roots
from pose2seg_jax.alignment import templates as pose_templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import results_files
from pose2seg_jax.evaluation.evaluator import annotated_persons
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.people import coco, coco_layout
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.program import data
from pose2seg_jax.program.flags import Command, refuse_without_effect
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights.files import Weights

if TYPE_CHECKING:
    from pose2seg_jax.program.job import Job
    from pose2seg_jax.program.photos import Photo
    from pose2seg_jax.program.predict import Prediction

_NUM_TEMPLATES = 2  # (paper)
_PHOTOS_PER_DEVICE = 50
_NOISE_LEVELS = (0.0, 0.5, 1.0, 2.0)  # of the poses, for a report


def run(command: Command) -> None:
    """Runs the mode of a command.

    Raises:
        UserError: what the user can mend.
    """
    _quiet_libraries()
    if command.engine is not None:  # the memory of the devices is for the workers
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if command.mode not in ("train", "templates"):  # training joins other hosts first
        _check_devices()
    if command.quiet:
        progress.be_quiet()
    if command.output is not None and command.mode not in (
        "predict",
        "export",
    ):  # before anything is computed
        _check_output_file(command.output)
    mode = {
        "app": serve,
        "train": train,
        "eval": evaluate,
        "predict": predict,
        "report": report,
        "export": export,
        "export_weights": export_weights,
        "convert_weights": convert_weights,
        "templates": make_templates,
    }[command.mode]
    mode(command)


class Trained(NamedTuple):
    """A trained network, and the config that it is used with.

    Attributes:
        weights: the network.
        config: the experiment, whose `model` is that of the weights.
    """

    weights: Weights
    config: ml_collections.ConfigDict

    def network(self) -> Network:
        """Returns what prediction needs beside the variables."""
        options = self.config.prediction
        return Network(self.weights.spec, self.config.dtype, options.flip, options.exclusive)


def train(command: Command) -> None:
    """Trains a network, or goes on."""
    from pose2seg_jax.program import runs

    if not command.distributed:
        runs.train(command.config, command.workdir)
        return
    parallel.join(command.distributed)
    parallel.run_with_others(lambda: runs.train(command.config, command.workdir))


def evaluate(command: Command) -> None:
    """Prints the table of a network, and writes its results; or the table of another method's results."""
    if command.results:
        dataset = data.validation(command.config)
        print(results_files.evaluate_file(dataset, command.results).table())
        return
    trained = load_trained(command)
    evaluator = data.open_evaluator(
        trained.config, trained.network(), command.poses, command.skeleton
    )
    evaluated = evaluator.run(trained.weights.variables)
    output = command.output
    if output is None and command.workdir:
        output = paths.resolve(command.workdir) / "results.json"
    try:
        if output is not None:
            results_files.save_results(output, evaluated.results)
            print(f"{len(evaluated.results)} masks written to {output}")
    finally:  # the table is not lost where the file cannot be written
        print(evaluated.table())


def predict(command: Command) -> None:
    """Writes masks and pictures for photos and videos."""
    from pose2seg_jax.program import photos
    from pose2seg_jax.program import predict as prediction

    by_workers, tally = 0, prediction.Tally()
    if command.engine == "ray":
        from pose2seg_jax.program import ray_engine

        by_workers, tally = ray_engine.run(command)
    part = None if command.shard is None else command.shard.replace("/", "-of-")
    opened = open_prediction(command, part, anew=False if command.engine else None)
    chosen = opened.photos
    if command.shard is not None:
        index, count = map(int, command.shard.split("/"))
        chosen = photos.shard(chosen, index, count)
    tally.skipped = 0  # what no worker could do is tried again here
    opened.prediction.tally = tally
    if opened.prediction.run(chosen, opened.poses, by_workers):
        sys.exit(prediction.PARTLY_DONE)


class OpenedPrediction(NamedTuple):
    """A prediction that is ready to begin.

    Attributes:
        prediction: does it.
        job: where it writes.
        photos: that the command names.
        poses: the source of their poses, see `pose_source.resolved`.
    """

    prediction: "Prediction"
    job: "Job"
    photos: "list[Photo]"
    poses: str


def open_prediction(
    command: Command, part: str | None = None, *, anew: bool | None = None, computes: bool = True
) -> OpenedPrediction:
    """Opens what a prediction needs.

    Args:
        command: what to predict.
        part: the name of this process where several share the photos, see `Job`.
        anew: whether everything is done again, see `Job`.
        computes: whether the network is put on the devices.

    Raises:
        UserError: something of it cannot be used.
    """
    from pose2seg_jax.program import outputs, photos, pose_source
    from pose2seg_jax.program.job import Job
    from pose2seg_jax.program.predict import Prediction

    found = photos.find(command.image)
    kinds = outputs.check(command.write) if command.write is not None else outputs.DEFAULT
    directory = outputs.open_directory(command.output, command.image)
    trained = load_trained(command)
    options = trained.config.prediction
    # A device is worth its compilations where many photos share them.
    devices = jax.local_devices()[: 1 + len(found) // _PHOTOS_PER_DEVICE] if computes else []
    poses = pose_source.resolved(command.poses or pose_source.OWN, trained.weights.spec)
    pose_options = pose_source.Options.from_config(options, command.skeleton)
    source = pose_source.open_source(poses, found, pose_options, devices)
    identity = {
        "network": trained.weights.fingerprint(),
        "skeleton": command.skeleton,
        "dtype": trained.config.dtype,
        **{f"prediction.{name}": value for name, value in options.items()},
        **pose_source.identity(poses, pose_options),
    }
    job = Job(directory, identity, overwrite=bool(command.overwrite), part=part, anew=anew)
    predictors = [
        Pose2SegPredictor(trained.network(), trained.weights.variables, device=device)
        for device in devices
    ]
    if poses == pose_source.HEADS:
        for predictor in predictors:
            predictor.use_own_poses(**pose_source.heads_options(pose_options))
    return OpenedPrediction(Prediction(predictors, source, job, kinds), job, found, poses)


def serve(command: Command) -> None:
    """Serves the page until it is interrupted."""
    from pose2seg_jax.program import app

    trained = load_trained(command)
    app.launch(trained.weights, trained.config.dtype)


def report(command: Command) -> None:
    """Writes an HTML page about a run, and prints its table."""
    from pose2seg_jax.evaluation import report as page

    trained = load_trained(command)
    config = trained.config
    predictor = Pose2SegPredictor(trained.network(), trained.weights.variables)
    evaluator: Any = data.open_evaluator(config, trained.network())
    evaluated, dataset = evaluator.run(trained.weights.variables), evaluator.dataset
    with_noise = {config.eval.pose_noise: evaluated}
    for level in _NOISE_LEVELS:
        if level not in with_noise:
            persons = annotated_persons(dataset, level, config.seed)
            with_noise[level] = evaluator.with_persons(persons).run(trained.weights.variables)
    page.write(
        command.output,
        predictor,
        dataset,
        coco_layout.image_directory(data.coco_directory(config), "validation"),
        evaluated,
        command.workdir,
        f"Step {trained.weights.provenance['step']} of {config.num_steps}, {config.batch_size} images a"
        f" step, {trained.weights.spec.image_size} px; scored on the {len(dataset.persons())} people of"
        f" {dataset.path}.",
        with_noise,
    )
    print(f"page with pictures: {command.output}")
    print(evaluated.table())


def export(command: Command) -> None:
    """Writes a network for programs without JAX."""
    from pose2seg_jax.program import export as exporting

    exporting.check(command.format)
    directory = paths.local(command.output, "--output")
    paths.make_directory(directory, "--output")
    trained = load_trained(command)
    # The predictor refuses networks that cannot predict.
    predictor = Pose2SegPredictor(trained.network(), trained.weights.variables)
    names = exporting.write(predictor.network, trained.weights.variables, command.format, directory)
    print(f"{', '.join(names)} written to {directory}")


def export_weights(command: Command) -> None:
    """Writes a checkpoint of a run as one weights file."""
    from pose2seg_jax.training import run_record

    loaded = load_trained(command).weights
    record = run_record.read(command.workdir)
    provenance = {
        **loaded.provenance,
        "trained_with": record.config,
        "changes": record.changes,
        "data": record.data,
        "versions": _versions(),
    }
    weights.save(command.output, loaded._replace(provenance=provenance))
    size = paths.resolve(command.output).stat().length / 2**20
    print(f"step {provenance['step']} written to {command.output} ({size:.1f} MiB)")


def convert_weights(command: Command) -> None:
    """Writes the weights of a PyTorch checkpoint, or of Google's MoveNet, as one weights file."""
    from pose2seg_jax.weights import convert, movenet_files

    source = paths.local(command.values["from"], "--from")
    if movenet_files.is_graph_model(source):
        variables, provenance = movenet_files.convert(source)
        _check_not_read(
            command, [source.with_name(s["file"]) for s in provenance["converted_from"]]
        )
        if command.overrides or command.config_is_named:
            _convert_backbone(command, variables, provenance)
            return
        movenet_files.save(command.output, variables, {**provenance, "versions": _versions()})
        print(f"{movenet_files.KIND} written to {command.output}")
        return
    _check_not_read(command, [source])
    spec = NetworkSpec.from_config(command.config.model)
    key = random_roots.key(command.config.seed, "initialisation")
    converted = convert.convert(spec, source, key)
    with open(source, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = {
        "converted_from": {"file": source.name, "sha256": digest},
        "kind": converted.kind,
        "versions": _versions(),
    }
    weights.save(command.output, Weights(spec, converted.variables, provenance))
    print(f"{converted.kind} written to {command.output}")
    if converted.unused:
        print(f"not used: {', '.join(converted.unused)}")


def _convert_backbone(command: Command, variables: Any, provenance: dict[str, Any]) -> None:
    """Writes MoveNet's features as the backbone of a config's network, whose other parts are random."""
    from pose2seg_jax.models.variables import init_variables
    from pose2seg_jax.weights import movenet_files

    spec = NetworkSpec.from_config(command.config.model)
    if spec.backbone["name"] != "movenet_fpn":
        raise UserError(
            "MoveNet's file is of the backbone movenet_fpn, as in configs/coco_human_movenet_ae.py; leave --config out for"
            " the pose network of its own."
        )
    made = init_variables(spec, random_roots.key(command.config.seed, "initialisation"))
    params = {**made["params"], "backbone": movenet_files.as_backbone(variables)}
    made = jax.device_get({**made, "params": params})
    provenance = {**provenance, "versions": _versions()}
    weights.save(command.output, Weights(spec, made, provenance))
    print(f"{movenet_files.KIND} as a backbone written to {command.output}")


def _check_not_read(command: Command, files: Sequence[pathlib.Path]) -> None:
    """Refuses an output that is one of the files that are converted."""
    target = paths.local(command.output, "--output").resolve()
    if target in [file.resolve() for file in files]:
        raise UserError(f"--output={command.output}: is a file of --from; name another one.")


def make_templates(command: Command) -> None:
    """Makes pose templates from COCO annotations, or the config's training split, as JSON."""
    annotations = command.annotations
    if annotations is None:
        annotations = coco_layout.annotation_file(data.coco_directory(command.config), "train")
    count = command.num_templates or _NUM_TEMPLATES
    write_templates(annotations, command.split, count, command.config.seed, command.output)


def write_templates(
    annotations: str | os.PathLike,
    split: str | None,
    count: int,
    seed: int,
    output: str | os.PathLike,
) -> None:
    """Clusters the poses of a COCO file into templates, and writes them as JSON.

    Args:
        annotations: the file.
        split: only images with this 'split' field; None for all.
        count: how many templates.
        seed: of the clustering.
        output: the JSON.

    Raises:
        UserError: there are too few poses.
    """
    persons = coco.read(annotations).persons(split=split)
    if not persons:
        of_split = f" of split '{split}'" if split else ""
        raise coco.CocoError(f"{annotations}: holds no person with a pose{of_split}.")
    made, shares = pose_templates.make_templates(
        np.stack([person.pose for person in persons]).astype(np.float64),
        np.stack([person.bbox for person in persons]),
        count,
        seed,
    )
    made_by = {
        "command": f"python main.py --mode=templates --annotations={os.path.basename(annotations)}"
        + (f" --split={split}" if split else "")
        + f" --num_templates={count} --output={os.path.basename(output)}",
        "persons": len(persons),
        "seed": seed,
    }
    pose_templates.save(output, made, shares, made_by)
    shown = ", ".join(f"{share:.1%}" for share in shares)
    print(f"{len(made)} templates of {len(persons)} persons ({shown} of them) written to {output}")


def load_trained(command: Command) -> Trained:
    """Returns the network of a run, of a weights file or of the package, and the config to use it with.

    Without --config, the config is the run's, or that of configs/coco_human.py, with the fields of the command line.

    Raises:
        UserError: there is none, or the command line would change the network.
    """
    if command.workdir:
        from pose2seg_jax.program import runs

        loaded, base = runs.restore(command.workdir, command.checkpoint or "latest")
        refuse_without_effect(command, base)
        source = f"the run in {command.workdir}"
    else:
        loaded = weights.load(command.weights)
        base = command.defaults.copy_and_resolve_references()
        source = command.weights or "the model of the package"
    overrides = dict(command.overrides)
    model = {
        k.removeprefix("model."): overrides.pop(k) for k in [*overrides] if k.startswith("model.")
    }
    if command.config_is_named:
        config, asked = command.config, NetworkSpec.from_config(command.config.model)
    else:
        config = base
        config.update_from_flattened_dict(overrides)
        asked = loaded.spec.with_fields(model)
    differences = loaded.spec.differences(asked)
    if differences:
        raise UserError(
            f"config.model is not the network of {source}, which comes as it is (its value, the one asked"
            f" for): {'; '.join(differences)}. Leave these fields, or --config, out."
        )
    return Trained(loaded, config)


def _check_devices() -> None:
    """Checks that JAX finds devices.

    Raises:
        UserError: it does not, as where JAX_PLATFORMS names what this machine does not have.
    """
    try:
        jax.local_devices()
    except Exception as error:  # JAX raises assertions too
        asked = os.environ.get("JAX_PLATFORMS")
        what = f"JAX_PLATFORMS={asked}: JAX" if asked else "JAX"
        said = str(error).splitlines()[0] if str(error) else "it is not there"
        raise UserError(f"{what} finds no such device: {said}. Unset it, or install JAX for that device.") from None  # fmt: skip


def _check_output_file(output: str) -> None:
    path = paths.resolve(output)
    if path.is_dir():
        raise UserError(f"--output={output}: is a directory; name a file in it.")
    paths.make_directory(path.parent, "--output")


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("jax", "flax")}


def _quiet_libraries() -> None:
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.WARNING)
    # Orbax warns of what is meant, and logs the errors that it raises.
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("absl").addFilter(_is_not_of_orbax)


def _is_not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
