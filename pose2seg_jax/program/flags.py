"""The flags of main.py: what they are, which mode takes which, and a command line as a `Command`."""

import dataclasses
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from flax import traverse_util
from ml_collections import config_flags

from pose2seg_jax.errors import UserError, run_program
from pose2seg_jax.people.videos import is_camera
from pose2seg_jax.prediction.defaults import defaults_of_prediction
from pose2seg_jax.program import outputs, pose_source

_ROOT = pathlib.Path(__file__).resolve().parents[2]  # of main.py and configs/
_DEFAULT_CONFIG = "configs/coco_human.py"


@dataclasses.dataclass(frozen=True)
class Mode:
    """What a mode is for, and what it takes.

    Attributes:
        does: a sentence for --help.
        needs: flags that must be given.
        takes: flags that may be given besides; `--config` always may.
        reads: beginnings of the config fields that have an effect; a changed field of another name is an error.
    """

    does: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    reads: tuple[str, ...]


_NETWORK = ("workdir", "weights", "checkpoint")
MODES = {
    "app": Mode(
        "Serves a page on which people's joints are moved, and the masks follow.",
        (), _NETWORK, ("model.", "dtype"),
    ),
    "train": Mode(
        "Trains and evaluates; a run that was stopped goes on.",
        ("workdir",), ("distributed", "quiet"), ("",),
    ),
    "eval": Mode(
        "Scores a network, or the masks of another method (--results).",
        (), (*_NETWORK, "poses", "skeleton", "results", "output", "quiet"),
        ("model.", "dataset.", "eval.", "prediction.", "dtype", "seed"),
    ),
    "predict": Mode(
        "Writes masks and pictures for photos.",
        ("image", "output"),
        (*_NETWORK, "poses", "skeleton", "write", "overwrite", "quiet", "shard", "engine", "workers"),
        ("model.", "prediction.", "dtype"),
    ),
    "report": Mode(
        "Writes an HTML page about a run.",
        ("workdir", "output"), ("checkpoint", "quiet"),
        ("model.", "dataset.", "eval.", "prediction.", "dtype", "seed"),
    ),
    "export": Mode(
        "Writes a network for programs without JAX, as ONNX, StableHLO or TFLite.",
        ("format", "output"), _NETWORK, ("model.", "dtype"),
    ),
    "export_weights": Mode(
        "Writes a checkpoint of a run as a weights file.",
        ("workdir", "output"), ("checkpoint",), ("model.",),
    ),
    "convert_weights": Mode(
        "Writes a PyTorch checkpoint, or MoveNet's TF.js file, as a weights file.",
        ("from", "output"), (), ("model.", "seed"),
    ),
    "templates": Mode(
        "Makes pose templates from annotations.",
        ("output",), ("annotations", "split", "num_templates"), ("dataset.", "seed"),
    ),
}  # fmt: skip

_IMAGE = "Photos, folders, patterns in quotes, videos, camera:0; may be given several times."
_SWITCHES = (
    ("overwrite", "Replace what --output holds of another prediction or program."),
    ("quiet", "Show no progress bar."),
)
# Name and help; the modes that take each are in MODES.
_TEXTS = (
    ("workdir", "Directory of a run: checkpoints, run.json, TensorBoard, results."),
    ("weights", "A weights file. Without it and --workdir, the model of the package."),
    ("checkpoint", "Which checkpoint of --workdir: 'latest' (default), 'best' or a step."),
    (
        "poses",
        "A pose file, a folder with one a photo, 'own' (the network's pose heads, or MoveNet; predict's default), 'auto' (RTMO), or a"
        " weights file with pose heads.",
    ),
    (
        "skeleton",
        "Which parts --poses holds, as 'coco' or 'h36m'; default: as its names or number say.",
    ),
    ("results", "COCO segmentation results of another method, to score instead."),
    ("annotations", "COCO annotations with poses; default: the training split."),
    ("split", "Only images with this 'split' field."),
    ("format", "Of --mode=export: 'onnx', 'stablehlo' or 'tflite'."),
    ("from", "A PyTorch checkpoint, or movenet-multipose.json; nothing in it is run."),
    ("output", "predict, export: a directory; report: HTML; *_weights: safetensors; else JSON."),
    (
        "shard",
        "Part INDEX/COUNT of the photos, from 0/8 to 7/8; without it, the same command then writes the results.",
    ),
    (
        "engine",
        "'ray' shares the photos among --workers processes, of one machine or of a Ray cluster.",
    ),
    ("distributed", "Several hosts: 'auto' (TPU pod, Slurm) or INDEX/COUNT@HOST:PORT."),
)
_NUMBERS = {
    "num_templates": "How many templates; default: 2, as the paper.",
    "workers": "Of --engine=ray; default: one for each GPU, or where there is none, for each machine.",
}
_ENGINES = ("ray",)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line, checked.

    Attributes:
        mode: a key of MODES.
        config: the experiment, with the overrides applied.
        defaults: the experiment without them.
        config_is_named: whether --config was given.
        overrides: the config fields that were given, by name: {"optimizer.learning_rate": 0.001}.
        values: the other flags, by name; None where one was not given.
    """

    mode: str
    config: ml_collections.ConfigDict
    defaults: ml_collections.ConfigDict
    config_is_named: bool
    overrides: Mapping[str, Any]
    values: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        """The value of a flag, as `command.workdir`."""
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


def parse(argv: Sequence[str], *, has_configs: bool = True) -> Command | None:
    """Reads a command line; None where it asked for --help, which is printed.

    Args:
        argv: the program's name and its arguments.
        has_configs: whether the config of a clone is the default; otherwise it is only what prediction reads.

    Raises:
        UserError: a flag or field is unknown or has a wrong value, one is missing, or one would have no effect.
    """
    file, arguments, named = _with_config_file(argv[1:], has_configs)
    before = sys.argv
    try:
        # ml_collections looks in sys.argv for the fields that are set.
        sys.argv = [argv[0], *([f"--config={file}"] if file else [])]
        plain = _define(file)
        plain(sys.argv)
        sys.argv = [argv[0], *arguments]
        values = _define(file)
        rest = values(sys.argv)
        config, defaults = values["config"].value, plain["config"].value
    except UserError:
        raise
    except flags.Error as error:
        raise UserError(str(error)) from None
    except AttributeError as error:
        # ml_collections' own words, with the nearest field, in place of its stack trace.
        inner = error.args[0] if error.args else error
        said = inner.args[0] if isinstance(inner, KeyError) else inner
        raise UserError(f"the config has no field {said}".replace("\n", ". ")) from None
    except Exception as error:  # whatever a config file does
        lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
        where = f"{file}, line {lines[-1].lineno}" if lines else "the config"
        raise UserError(f"{where}: could not be read: {error!r}.") from None
    finally:
        sys.argv = before
    if values["help"].value:
        print(_help(values))
        return None
    if len(rest) > 1 and values["mode"].value == "predict":  # also as a shell expands a pattern
        values["image"].value = [*(values["image"].value or ()), *rest[1:]]
    elif len(rest) > 1:
        raise UserError(f"unknown argument '{rest[1]}'; flags begin with --.")
    others = (*(name for name, _ in (*_TEXTS, *_SWITCHES)), "image", "write", *_NUMBERS)
    command = Command(
        str(values["mode"].value),
        config,
        defaults,
        named,
        dict(config_flags.get_override_values(values["config"])),
        {name: values[name].value for name in others},
    )
    check(command)
    return command


def _with_config_file(
    arguments: Sequence[str], has_configs: bool
) -> tuple[pathlib.Path | None, list[str], bool]:
    """The config file, the arguments with its path, and whether --config was given; the default is that of our clone."""
    kept, path = [], None
    rest = iter(arguments)
    for argument in rest:
        name, sign, value = argument.partition("=")
        if name in ("--config", "-config"):
            path = value if sign else next(rest, "")
        else:
            kept.append(argument)
    if path is None and not has_configs:
        return None, kept, False
    file = _ROOT / _DEFAULT_CONFIG if path is None else pathlib.Path(os.path.expanduser(path))
    if not file.exists():  # main.py works from any directory
        file = _ROOT / file
    if not file.is_file():
        raise UserError(f"--config={path}: is no file; the experiments are in {_ROOT / 'configs'}.")
    return file, [f"--config={file}", *kept], path is not None


def _define(file: pathlib.Path | None) -> flags.FlagValues:
    values = flags.FlagValues()
    what = "The experiment; --config.FIELD=VALUE sets a field."
    if file is None:
        defaults = ml_collections.ConfigDict(defaults_of_prediction())
        config_flags.DEFINE_config_dict("config", defaults, what, flag_values=values)
    else:
        config_flags.DEFINE_config_file("config", None, what, flag_values=values)
    flags.DEFINE_enum("mode", "train", list(MODES), "What to do.", flag_values=values)
    for name, text in _TEXTS:
        flags.DEFINE_string(name, None, text, flag_values=values)
    for name, text in _NUMBERS.items():
        flags.DEFINE_integer(name, None, text, 1, flag_values=values)
    flags.DEFINE_multi_string("image", None, _IMAGE, flag_values=values)
    kinds = ", ".join(f"{kind} ({text})" for kind, text in outputs.KINDS.items())
    flags.DEFINE_list("write", None, f"Several of {kinds}.", flag_values=values)
    for name, text in _SWITCHES:
        flags.DEFINE_boolean(name, None, text, flag_values=values)
    flags.DEFINE_boolean("help", False, "Show this help.", flag_values=values, short_name="h")
    return values


def check(command: Command) -> None:
    """Checks that the mode has what it needs, and nothing that would have no effect.

    Raises:
        UserError: a flag is missing, or a flag or field would have no effect.
    """
    mode = MODES[command.mode]
    given = {name for name, value in command.values.items() if value is not None}
    for name in sorted(given - {*mode.needs, *mode.takes}):
        others = [other for other, m in MODES.items() if name in (*m.needs, *m.takes)]
        raise UserError(
            f"--{name} has no effect in --mode={command.mode}; it is for --mode={', '.join(others)}."
        )
    for name in mode.needs:
        if name not in given:
            raise UserError(f"--mode={command.mode} needs --{name}.")
    if "weights" in given and "workdir" in given:
        raise UserError("--weights and --workdir both name a network; leave one out.")
    if "checkpoint" in given and "workdir" not in given:
        raise UserError("--checkpoint has no effect without the --workdir of a run.")
    _check_pose_fields(command)
    _check_sharing(command)
    if "skeleton" in given and (command.poses is None or pose_source.is_estimator(command.poses)):
        raise UserError("--skeleton has no effect without --poses=FILE.")
    if "results" in given:
        for name in sorted(given & {*_NETWORK, "poses", "output"}):
            raise UserError(f"--{name} has no effect with --results, which are scored as they are.")
    if "workdir" not in given:  # else what the run was trained with is what counts
        refuse_without_effect(command, command.defaults)
    if "poses" in given and command.mode == "eval" and "eval.pose_noise" in command.overrides:
        raise UserError(
            "--config.eval.pose_noise has no effect with --poses: it perturbs annotated poses."
        )


def _check_sharing(command: Command) -> None:
    """Checks the flags by which processes share photos.

    Raises:
        UserError: they are unknown, or exclude each other.
    """
    if command.engine not in (None, *_ENGINES):
        raise UserError(f"--engine={command.engine}: is unknown; there is {', '.join(_ENGINES)}.")
    if command.workers is not None and command.engine is None:
        raise UserError("--workers has no effect without --engine=ray.")
    shared = command.shard is not None or command.engine is not None
    if shared and any(is_camera(image) for image in command.image or ()):
        raise UserError("a camera cannot be shared; leave --shard and --engine out.")
    if command.shard is None:
        return
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", command.shard)
    if not match or int(match[1]) >= int(match[2]):
        raise UserError(f"--shard={command.shard}: must be INDEX/COUNT, from 0/COUNT to COUNT-1/COUNT, as 0/8 to 7/8.")  # fmt: skip
    if command.engine is not None:
        raise UserError("--shard and --engine both share the photos; leave one out.")
    if command.overwrite:
        raise UserError("--overwrite would remove what the other shards did; empty the directory before they start.")  # fmt: skip


def _check_pose_fields(command: Command) -> None:
    """Checks that fields about estimated poses have an effect on those that are used.

    Raises:
        UserError: one has none.
    """
    if command.mode not in ("predict", "eval", "report"):
        return
    usual = pose_source.OWN if command.mode == "predict" else None
    poses = command.values.get("poses") or usual
    without = {
        "accurate_poses",
        "part_score_threshold",
        "person_score_threshold",
        "drop_duplicates",
    }
    if poses == pose_source.RTMO:
        without = {"accurate_poses", "drop_duplicates"}
    elif poses is not None:
        without = {"drop_duplicates" if pose_source.is_estimator(poses) else "accurate_poses"}
    for name in sorted(without):
        if f"prediction.{name}" in command.overrides:
            source = "annotated poses" if poses is None else f"--poses={poses}"
            raise UserError(
                f"--config.prediction.{name} has no effect with {source}; leave it out."
            )


def refuse_without_effect(command: Command, config: ml_collections.ConfigDict) -> None:
    """Checks that each field that is set is one that the mode reads, or has the value of a config.

    Raises:
        UserError: it would have no effect.
    """
    before = traverse_util.flatten_dict(config.to_dict(), sep=".")
    reads = ("dataset.", "seed") if command.results else MODES[command.mode].reads
    for name, value in command.overrides.items():
        known = before.get(name)
        same = list(known) == list(value) if isinstance(value, tuple) and known else known == value
        if not same and not name.startswith(reads):
            raise UserError(
                f"--config.{name}={value} has no effect in --mode={command.mode}; leave it out."
            )


def _help(values: flags.FlagValues) -> str:
    lines = ["python main.py --mode=MODE [flags]", ""]
    for name, mode in MODES.items():
        needs = " ".join(f"--{flag}=..." for flag in mode.needs)
        takes = " ".join(f"[--{flag}]" for flag in mode.takes)
        lines += [f"  --mode={name} {needs} {takes}".rstrip(), f"      {mode.does}"]
    lines += ["", "Flags:"]
    names = (name for name, _ in (*_TEXTS, *_SWITCHES))
    for name in ("config", "mode", "image", *names, "write", *_NUMBERS):
        lines.append(f"  --{name:14} {values[name].help}")
    return "\n".join(lines)


def run(argv: Sequence[str]) -> None:
    """Runs a command line; what the user can mend is one line on standard error, and exit status 1."""

    def parse_and_run() -> None:
        command = parse(argv)
        if command is not None:
            from pose2seg_jax.program import modes

            modes.run(command)

    run_program(parse_and_run)
