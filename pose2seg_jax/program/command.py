"""The commands that `pip install` brings: `pose2seg` is `main.py --mode=predict` with the photos as arguments, `pose2seg-app` its page."""

import logging
import sys

from pose2seg_jax.errors import UserError, run_program
from pose2seg_jax.program import flags, outputs

_HELP = """\
pose2seg PHOTO... --output=DIR [flags]

Cuts the people of photos and videos out: one mask for each pose.

  PHOTO              a photo, a folder, a pattern, a video, or camera:0
  --output=DIR       where results go; a prediction that was stopped goes on there

  --poses=FILE       poses of another program: a file, or a folder with one per photo; 'auto' asks
                     RTMO; by default MoveNet, which is in the package, finds the people
  --write=KINDS      with commas; coco,overlay where not given:
{kinds}
  --overwrite        replace what DIR holds of another prediction or program
  --skeleton=NAME    which parts FILE holds, as 'coco' or 'h36m'
  --weights=FILE     another network than the one of the package
  --shard=I/N        part I of N of the photos, counted from 0, for many machines; the command
                     without it then writes the results
  --engine=ray       share the photos among --workers=N processes, of one machine or a cluster
  --quiet            show no progress bar

  --config.prediction.person_score_threshold=0.5    leave out who was found unsurely
  --config.prediction.accurate_poses=true           better poses of MoveNet, in more time
  --config.prediction.exclusive=false               a pixel may belong to several persons
  --config.prediction.flip=true                     a little better, for twice the time
  --config.dtype=bfloat16                           faster on GPU and TPU

Exit status: 0 all was done, 1 nothing, 2 some photos were skipped."""


_APP_HELP = """\
pose2seg-app [flags]

Serves a page on which the joints of people in a photo are moved, and the masks follow.

  --weights=FILE           another network than the one of the package
  --config.dtype=bfloat16  faster on GPU and TPU

The page is at http://127.0.0.1:7860. The environment variables GRADIO_SERVER_NAME and GRADIO_SERVER_PORT change that."""


def main() -> None:
    """Runs the command; what the user can mend is one line on standard error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    run_program(_run)


def app() -> None:
    """Runs the command `pose2seg-app`, which is `main.py --mode=app`."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    run_program(lambda: _serve(sys.argv[1:]))


def _serve(arguments: list[str]) -> None:
    if {"--help", "-h"} & set(arguments):
        print(_APP_HELP)
        return
    command = flags.parse(["pose2seg-app", "--mode=app", *arguments], has_configs=False)
    if command is not None:
        from pose2seg_jax.program import modes

        modes.run(command)


def _run() -> None:
    arguments = sys.argv[1:]
    if not arguments or {"--help", "-h", "--helpfull", "-help"} & set(arguments):
        print(help_text())
        return
    if any(argument.split("=")[0] in ("--mode", "-mode") for argument in arguments):
        raise UserError("pose2seg predicts; the other modes are those of main.py in a clone.")
    command = flags.parse(["pose2seg", "--mode=predict", *arguments], has_configs=False)
    if command is not None:
        from pose2seg_jax.program import modes

        modes.run(command)


def help_text() -> str:
    """Returns what `pose2seg --help` prints."""
    kinds = "\n".join(f"       {kind:10} {text}" for kind, text in outputs.KINDS.items())
    return _HELP.format(kinds=kinds)
