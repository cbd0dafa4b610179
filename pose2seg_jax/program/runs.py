"""Training runs: what `--mode=train` opens, and the network of a run for everything else."""

import contextlib
import os

import ml_collections

from pose2seg_jax import parallel, paths, random_roots
from pose2seg_jax.alignment import templates as pose_templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.program import data
from pose2seg_jax.training import run_record
from pose2seg_jax.training import train as loop
from pose2seg_jax.training.checkpoints import Checkpoints, Progress
from pose2seg_jax.training.metrics_log import MetricsLog
from pose2seg_jax.training.optimizer import create_optimizer
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.state import TrainState, abstract_state
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights.files import Weights

_PRETRAINED = {
    "efficientnet_lite0_fpn": "ImageNet's weights first, see configs/coco_human_lite.py",
    "efficientnet_lite2_fpn": "ImageNet's weights of EfficientNet-Lite2 first, see configs/coco_human_lite.py",
    "movenet_fpn": "MoveNet's weights first, see configs/coco_human_movenet_ae.py",
}


def train(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
    """Opens everything that a config names and trains; goes on where the run has begun.

    Returns:
        The metrics of the final evaluation; none where the run had ended before.

    Raises:
        UserError: the config, the data or the run cannot be trained; the message says why.
    """
    options = TrainOptions.from_config(config)
    devices = parallel.num_local_devices() * parallel.processes()[1]
    for field in ("batch_size", "persons_per_batch"):
        parallel.per_device(field, config[field], devices)
    workdir = os.fspath(paths.make_directory(workdir, "--workdir"))
    parallel.first_process_first("generated", lambda: data.coco_directory(config))
    quiet = parallel.processes()[0] > 0
    with (
        contextlib.nullcontext() if quiet else _alone(workdir),
        Checkpoints(
            workdir, keep_latest=options.keep_latest, keep_best=options.keep_best
        ) as checkpoints,
        MetricsLog(workdir, options.num_steps, options.batch_size, quiet=quiet) as log,
    ):
        step = checkpoints.latest_step()
        content = data.training_content(config)
        if step is None:
            spec = NetworkSpec.from_config(config.model)
            record = run_record.new(config, spec, content)
        else:
            record = run_record.read(workdir)
            spec = _asked_for(config, record)
            before = len(record.changes)
            record = record.go_on(config, spec, content, step)
            for change in record.changes[before:]:
                for name, (old, new) in change["fields"].items():
                    log.say(f"{name} was {old} and is {new} from step {step} on")
        start = None
        if step is None and config.init_weights:
            key = random_roots.key(options.seed, "initialisation")
            start = weights.load_to_train_on(spec, config.init_weights, key)
        elif step is None and spec.backbone["name"] in _PRETRAINED:
            raise UserError(
                f"config field init_weights is empty, but the first stages of {spec.backbone['name']} stay as"
                f" they start: convert {_PRETRAINED[spec.backbone['name']]}."
            )
        # What only the evaluation needs is checked now, not after hours of training.
        network = Network(spec, options.dtype, config.prediction.flip, config.prediction.exclusive)
        evaluator = data.open_evaluator(config, network)
        open_batches = data.open_stream(config, options, data.prepare_training(config, content))
        return loop.train(
            workdir, record, options, checkpoints, log, open_batches, evaluator, start
        )


def _alone(workdir: str) -> contextlib.AbstractContextManager[bool]:
    """Keeps a second training out of a work directory; of several processes the first one does it for all."""
    busy = f"{workdir}: another process is training here. Wait for it, or name another --workdir."
    return paths.locked(paths.resolve(workdir) / ".lock", busy=busy)


def restore(workdir: str, checkpoint: str = "latest") -> tuple[Weights, ml_collections.ConfigDict]:
    """Returns the network in a checkpoint of a run, and the config of the run.

    Args:
        workdir: of the run.
        checkpoint: "latest", "best" or a step.

    Raises:
        UserError: there is no such run or checkpoint.
    """
    record = run_record.read(workdir)
    state, _ = restore_state(record, workdir, checkpoint)
    return Weights(record.spec, state.variables, {"step": int(state.step)}), record.config_dict()


def restore_state(
    record: run_record.RunRecord, workdir: str | os.PathLike, checkpoint: str = "latest"
) -> tuple[TrainState, Progress]:
    """Returns all that a checkpoint of a run holds; see `restore`.

    Args:
        record: of the run.
        workdir: of the run.
        checkpoint: "latest", "best" or a step.

    Raises:
        UserError: there is no such checkpoint.
    """
    options = TrainOptions.from_config(record.config_dict())
    optimizer = create_optimizer(options.optimizer, options.num_steps, record.spec)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.restore(abstract_state(record.spec, optimizer), checkpoint)


def _asked_for(config: ml_collections.ConfigDict, record: run_record.RunRecord) -> NetworkSpec:
    """The network of a config; a template file that has gone is that of the run, which has its own copy."""
    try:
        return NetworkSpec.from_config(config.model)
    except pose_templates.TemplateError:
        name = "model.alignment.templates"
        if record.current.get(name) != config.model.alignment.templates:
            raise
        fields = config.model.to_dict()
        fields["alignment"]["templates"] = record.spec.templates
        return NetworkSpec.from_dict(fields)
