"""pose2seg_jax: train, evaluate, predict, make templates, convert weights.

    python main.py --config=configs/coco_human.py --workdir=RUN [--mode=train|eval|predict|...]

Any field of the config can be set: --config.batch_size=8.
"""

import logging
import pathlib
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from pose2seg_jax.errors import UserError

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", "configs/coco_human.py", "The experiment.")
flags.DEFINE_string("workdir", None, "Directory of the run: checkpoints, TensorBoard, results.")
flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "predict", "templates", "export_weights", "convert_weights", "report"],
    "What to do.",
)
flags.DEFINE_string(
    "distributed", None, "train on several hosts: 'auto' (TPU pod, Slurm) or INDEX/COUNT@HOST:PORT."
)
flags.DEFINE_string(
    "checkpoint", "latest", "eval, predict, export_weights, report: 'latest', 'best' or a step."
)
flags.DEFINE_string(
    "weights",
    None,
    "eval, predict: a weights file, in place of --config and --workdir; without any of them the model of"
    " the package.",
)
flags.DEFINE_string("image", None, "predict: an image file or a directory of images.")
flags.DEFINE_string(
    "poses",
    None,
    "eval: COCO keypoint results; predict: a pose file, or 'auto' for a pose estimator.",
)
flags.DEFINE_string("results", None, "eval: score this COCO segmentation results file instead.")
flags.DEFINE_string(
    "annotations",
    None,
    "templates: COCO annotations with poses; default: the config's training split.",
)
flags.DEFINE_string("from", None, "convert_weights: a PyTorch checkpoint; nothing in it is run.")
flags.DEFINE_string("split", None, "templates: only images with this 'split' field.")
flags.DEFINE_string(
    "output",
    None,
    "predict: directory; templates, eval: JSON; export_ and convert_weights: safetensors; report: HTML.",
)


def main(argv: list[str]) -> None:
    """Dispatches on --mode. Each mode imports only what it needs."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument '{argv[1]}'.")
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of what is meant
    config = FLAGS.config
    if FLAGS.output:  # before anything is computed
        pathlib.Path(FLAGS.output).parent.mkdir(parents=True, exist_ok=True)
    if FLAGS.distributed and FLAGS.mode != "train":
        raise app.UsageError("--distributed is for --mode=train.")
    try:
        if FLAGS.mode == "train":
            if FLAGS.distributed:
                from pose2seg_jax import parallel

                parallel.join(FLAGS.distributed)
            from pose2seg_jax.training.train import train

            train(config, _flag("workdir"))
            return
        from pose2seg_jax.prediction.predictor import Pose2SegPredictor
        from pose2seg_jax.program import commands

        if FLAGS.mode == "templates":
            commands.templates(config, FLAGS.annotations, FLAGS.split, _flag("output"))
        elif FLAGS.mode == "export_weights":
            commands.export_weights(config, _flag("workdir"), _flag("output"), FLAGS.checkpoint)
        elif FLAGS.mode == "convert_weights":
            commands.convert_weights(config, _flag("from"), _flag("output"))
        elif FLAGS.mode == "report":
            commands.report(config, _flag("workdir"), _flag("output"), FLAGS.checkpoint)
        elif FLAGS.mode == "predict":
            image, poses, output = map(_flag, ("image", "poses", "output"))
            predictor = Pose2SegPredictor.from_weights(_trained(), flip=config.eval.flip)
            commands.predict(config, predictor, image, poses, output)
        elif FLAGS.results:
            commands.evaluate_file(config, FLAGS.results)
        else:
            beside = (
                f"{FLAGS.workdir}/results.json" if FLAGS.workdir and not FLAGS.weights else None
            )
            commands.evaluate(config, _trained(), FLAGS.poses, FLAGS.output or beside)
    except UserError as error:
        sys.exit(f"error: {error}")


def _trained():
    """The network of --weights, of a checkpoint in --workdir, or of the package."""
    from pose2seg_jax.program import commands
    from pose2seg_jax.weights import files as weights

    if FLAGS.workdir and not FLAGS.weights:
        return commands.restore(FLAGS.config, FLAGS.workdir, FLAGS.checkpoint)
    changes = config_flags.get_override_values(FLAGS["config"])
    named = bool(FLAGS["config"].present) and not FLAGS.weights
    return weights.load_unchanged(FLAGS.config, FLAGS.weights, changes, same_network=named)


def _flag(name: str) -> str:
    value = FLAGS[name].value
    if value is None:
        raise app.UsageError(f"--mode={FLAGS.mode} needs --{name}.")
    return value


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:
        # ml_collections' own words, with the nearest field, in place of its stack trace.
        if not error.args or not isinstance(error.args[0], KeyError):
            raise
        sys.exit(f"error: the config has no field {error.args[0].args[0]}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    app.run(main, flags_parser=_parse_flags)
