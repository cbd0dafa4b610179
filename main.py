"""pose2seg_jax: train, evaluate and predict.

    python main.py --config=configs/coco_human.py --workdir=RUN [--mode=train|eval|predict|templates]

Any field of the config can be set: --config.batch_size=8.
"""

import logging
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", "configs/coco_human.py", "The experiment.")
flags.DEFINE_string("workdir", None, "Directory of the run: checkpoints, TensorBoard, results.")
flags.DEFINE_enum("mode", "train", ["train", "eval", "predict", "templates"], "What to do.")
flags.DEFINE_string("image", None, "predict: an image file or a directory of images.")
flags.DEFINE_string("poses", None, "eval: COCO keypoint results; predict: results or annotations.")
flags.DEFINE_string("results", None, "eval: score this COCO segmentation results file instead.")
flags.DEFINE_string("annotations", None, "templates: COCO annotations to take the poses from.")
flags.DEFINE_string("split", None, "templates: only images with this 'split' field.")
flags.DEFINE_string("output", None, "predict: directory; templates: JSON file; eval: results JSON.")


def _require(*names: str) -> None:
    for name in names:
        if not FLAGS[name].value:
            raise app.UsageError(f"--mode={FLAGS.mode} needs --{name}.")


def main(argv: list[str]) -> None:
    """Dispatches on --mode."""
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument '{argv[1]}'.")
    config = FLAGS.config
    absl_logging.set_verbosity(absl_logging.WARNING)
    # Each mode imports what it needs: prediction and templates do without TensorFlow.
    if FLAGS.mode == "templates":
        from pose2seg_jax import commands

        _require("annotations", "output")
        commands.templates(config, FLAGS.annotations, FLAGS.split, FLAGS.output)
    elif FLAGS.mode == "predict":
        from pose2seg_jax import commands

        _require("workdir", "image", "poses", "output")
        commands.predict(config, FLAGS.workdir, FLAGS.image, FLAGS.poses, FLAGS.output)
    elif FLAGS.mode == "eval":
        from pose2seg_jax import commands

        if not FLAGS.results:
            _require("workdir")
        commands.evaluate(config, FLAGS.workdir, FLAGS.poses, FLAGS.results, FLAGS.output)
    else:
        from pose2seg_jax.train import train

        _require("workdir")
        train(config, FLAGS.workdir)


def _run() -> None:
    logging.basicConfig(level=logging.WARNING)
    try:
        app.run(main)
    except (ValueError, AttributeError, KeyError) as error:
        if "-v" in sys.argv:
            raise
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _run()
