"""Faults that are injected into real trainings, and what each of them costs.

    python -m benchmarks.faults --workdir=DIR --times=50        # or `make faults`

Every training is `python main.py` with a tiny network on a few generated people, saved after every step. It is compared with
one that nothing happened to: the parameters, the moments of the optimiser and the batch statistics at the end, bit for bit,
and every line about a step that was taken twice. Full and read-only disks are small file systems in memory; to mount them
needs root on Linux, and without it these two faults are left out.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import rows
from pose2seg_jax.evaluation.coco_protocol import align_columns
from pose2seg_jax.program import runs
from pose2seg_jax.training import run_record

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_TINY = {
    "dataset.synthetic.train": 24, "dataset.synthetic.validation": 2, "dataset.synthetic.size": 64,
    "model.image_size": 64, "model.roi_size": 32, "model.backbone.features": 8,
    "model.backbone.depth": 1, "model.branch.features": 4, "model.branch.units": 1,
    "model.branch.head_features": 4, "model.branch.stem_features": 8, "persons_per_batch": 32,
    "optimizer.schedule": "step", "log_every": 1, "checkpoint_every": 1, "panels_every": 0,
}  # fmt: skip
_STEP = re.compile(r"^step (\d+)/\d+  (.*?)(?:  [\d.]+ images/s.*)?$")
_PATIENCE = 900  # seconds after which a process is killed, and its fault counts as one


@dataclasses.dataclass
class Outcome:
    """A row of the table."""

    fault: str
    times: int
    lost_steps: int | str
    examples: str
    outcome: str


class FaultError(Exception):
    """Something was lost, or went wrong without a word."""


class Lab:
    """A folder with data, and trainings on it."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONUNBUFFERED": "1",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        }

    def start(self, workdir: pathlib.Path, steps: int, *more: str, **fields: Any) -> "Training":
        """Starts a training, or goes on with one."""
        made = _TINY | {"num_steps": steps, "dataset.data_dir": self.folder / "data"} | fields
        command = [
            sys.executable, str(_ROOT / "main.py"), "--config=configs/synthetic.py", f"--workdir={workdir}",
            *(f"--config.{name}={value}" for name, value in made.items()), *more,
        ]  # fmt: skip
        return Training(command, self._environment)

    def finished(self, workdir: pathlib.Path, steps: int, **fields: Any) -> "Training":
        """Runs a training to its end.

        Raises:
            FaultError: it fails.
        """
        training = self.start(workdir, steps, **fields)
        training.wait()
        training.check(0)
        return training


class Training:
    """A process that trains."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.lines: list[str] = []
        self.errors = ""  # what it has written to standard error, once it has ended
        self._patience = threading.Timer(_PATIENCE, self.process.kill)
        self._patience.daemon = True
        self._patience.start()

    def read_until(self, wanted: str) -> bool:
        """Reads what it says until a line matches; False where it ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if re.search(wanted, line):
                return True
        return False

    def wait(self) -> float:
        """Returns the seconds until it has ended."""
        start = time.monotonic()
        self.read_until("(?!)")
        self.process.wait()
        self._patience.cancel()
        self._errors.seek(0)
        self.errors = self._errors.read()
        self._errors.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return time.monotonic() - start

    def kill(self) -> None:
        """Ends it as a machine that is taken away."""
        self.process.kill()
        self.wait()

    @property
    def steps(self) -> dict[int, str]:
        """What it has said of each step, without how fast it was."""
        found = (_STEP.match(line) for line in self.lines)
        return {int(match[1]): match[2] for match in found if match}

    def said(self, words: str) -> bool:
        """Returns whether a line holds these words."""
        return any(words in line for line in self.lines)

    def check(self, code: int, words: str = "") -> None:
        """Checks how it ended.

        Raises:
            FaultError: otherwise than wanted, or with a stack trace.
        """
        if self.process.returncode != code or words not in self.errors:
            raise FaultError(
                f"exit {self.process.returncode}, wanted {code} and {words!r}: {self.errors}"
            )
        if "Traceback" in self.errors:
            raise FaultError(self.errors)


def state_of(workdir: pathlib.Path) -> Any:
    """Everything that the newest checkpoint of a run holds."""
    return runs.restore_state(run_record.read(workdir), workdir)


def check_equal(workdir: pathlib.Path, reference: pathlib.Path) -> None:
    """Checks that two runs have the same state, bit for bit.

    Raises:
        FaultError: they have not.
    """
    same = jax.tree.map(np.array_equal, state_of(workdir), state_of(reference))
    if not all(jax.tree.leaves(same)):
        raise FaultError(f"{workdir} and {reference} have other parameters")


def check_repeated(trainings: list[Training]) -> int:
    """Returns how many steps were taken more than once.

    Raises:
        FaultError: one of them came out otherwise.
    """
    known: dict[int, str] = {}
    repeated = 0
    if not any(training.steps for training in trainings):
        raise FaultError("no training has said anything of a step")
    for training in trainings:
        for step, values in training.steps.items():
            repeated += step in known
            if known.setdefault(step, values) != values:
                raise FaultError(f"step {step}: {known[step]} and {values}")
    return repeated


def killed(lab: Lab, times: int) -> Outcome:
    """SIGKILL at random moments, most of them within a save, since every step is saved."""
    chance, steps = random.Random(0), 4 * times + 10
    lab.finished(lab.folder / "whole", steps)
    trainings: list[Training] = []
    incomplete = 0
    for _ in range(times):
        training = lab.start(lab.folder / "killed", steps)
        trainings.append(training)
        if training.read_until(r"^step "):
            time.sleep(chance.uniform(0, 1))
        training.kill()
        incomplete += training.said("is incomplete")
        if "Traceback" in training.errors:
            raise FaultError(training.errors)
    done = sum(training.process.returncode == -signal.SIGKILL for training in trainings)
    trainings.append(lab.finished(lab.folder / "killed", steps))
    incomplete += trainings[-1].said("is incomplete")
    check_equal(lab.folder / "killed", lab.folder / "whole")
    repeated = check_repeated(trainings)
    return Outcome("SIGKILL", done, repeated, "0", f"equal bit for bit; {incomplete} incomplete checkpoints, each named and removed")  # fmt: skip


def asked_to_end(lab: Lab, times: int) -> Outcome:
    """SIGTERM and SIGINT in turn."""
    steps, slowest = 6 * times + 4, 0.0
    lab.finished(lab.folder / "whole_asked", steps)
    trainings = []
    for number in range(times):
        training = lab.start(lab.folder / "asked", steps)
        trainings.append(training)
        training.read_until(r"^step ")
        training.process.send_signal((signal.SIGTERM, signal.SIGINT)[number % 2])
        slowest = max(slowest, training.wait())
        training.check(0)
        if not training.said("asked to end: saved after step"):
            raise FaultError("\n".join(training.lines))
    trainings.append(lab.finished(lab.folder / "asked", steps))
    if repeated := check_repeated(trainings):
        raise FaultError(f"{repeated} steps were taken twice")
    check_equal(lab.folder / "asked", lab.folder / "whole_asked")
    return Outcome("SIGTERM, SIGINT", times, 0, "0", f"exit status 0 after {slowest:.1f} s at most; equal bit for bit")  # fmt: skip


def full_disk(lab: Lab, times: int) -> Outcome:
    """A file system that is too small for the third checkpoint, of which two are kept, then a larger one."""
    del times
    lab.finished(lab.folder / "whole_disk", 8)
    pages = [-(-file.stat().st_size // 4096) for file in (lab.folder / "whole_disk/checkpoints/8").rglob("*")]  # fmt: skip
    with _mounted(lab.folder / "disk", f"size={4 * int(2.6 * sum(pages)) + 64}k") as disk:
        training = lab.start(disk / "run", 8)
        training.wait()
        training.check(1, "a checkpoint cannot be written")
        last = int(state_of(disk / "run")[0].step)
        _mount(disk, "remount,size=100m")
        lab.finished(disk / "run", 8)
        check_equal(disk / "run", lab.folder / "whole_disk")
    lost = max(training.steps) - last
    return Outcome("the disk is full", 1, lost, "0", "one line; the last checkpoint stays; goes on where there is room; equal bit for bit")  # fmt: skip


def read_only_disk(lab: Lab, times: int) -> Outcome:
    """A file system that may no longer be written."""
    del times
    with _mounted(lab.folder / "disk", "size=100m") as disk:
        lab.finished(disk / "run", 2)
        before = state_of(disk / "run")
        _mount(disk, "remount,ro")
        training = lab.start(disk / "run", 4)
        training.wait()
        training.check(1, "cannot be written")
        jax.tree.map(np.testing.assert_array_equal, state_of(disk / "run"), before)
    return Outcome("the disk is read-only", 1, 0, "0", "one line; the checkpoint stays")


def two_in_one(lab: Lab, times: int) -> Outcome:
    """A second training in the directory of the first."""
    del times
    first = lab.start(lab.folder / "busy", 1000)
    first.read_until(r"^step ")
    second = lab.start(lab.folder / "busy", 1000)
    second.wait()
    if not first.read_until(r"^step "):
        raise FaultError(first.errors)
    first.kill()
    second.check(1, "another process is training here")
    return Outcome("two in one directory", 1, 0, "0", "the second is refused, the first goes on")


def killed_preparation(lab: Lab, times: int) -> Outcome:
    """SIGKILL while the data is prepared."""
    lab.finished(lab.folder / "first", 1)
    source, data = lab.folder / "data", lab.folder / "data_again"
    (people,) = (path for path in source.iterdir() if (path / "annotations").is_dir())
    for _ in range(times):
        shutil.rmtree(data, ignore_errors=True)
        fields = {"dataset.data_dir": data, "dataset.coco_dir": people}
        training = lab.start(lab.folder / "prepared", 1, **fields)
        while training.process.poll() is None and not list(data.rglob("incomplete.*")):
            time.sleep(0.001)
        training.kill()
        shutil.rmtree(lab.folder / "prepared", ignore_errors=True)
        lab.finished(lab.folder / "prepared", 1, **fields)
        if left := list(data.rglob("incomplete.*")):
            raise FaultError(f"{left} was left behind")
        shutil.rmtree(lab.folder / "prepared")
    return Outcome("SIGKILL while data is prepared", times, 0, "0", "prepared anew, nothing is left behind")  # fmt: skip


def damaged_checkpoint(lab: Lab, times: int) -> Outcome:
    """A checkpoint that is half as long as it was."""
    del times
    workdir = lab.folder / "damaged"
    lab.finished(workdir, 3)
    for file in (workdir / "checkpoints/3/state").rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)
    training = lab.start(workdir, 5)
    training.wait()
    training.check(1, "checkpoints/3: is damaged and cannot be read")
    shutil.move(workdir / "checkpoints/3", lab.folder / "moved_away")
    lab.finished(workdir, 5)
    lab.finished(lab.folder / "undamaged", 5)
    check_equal(workdir, lab.folder / "undamaged")
    return Outcome("a damaged checkpoint", 1, 1, "0", "named; moved away, the run goes on from the one before; equal bit for bit")  # fmt: skip


def no_numbers(lab: Lab, times: int) -> Outcome:
    """A learning rate that throws the parameters beyond all numbers."""
    del times
    fields = {"optimizer.learning_rate": 1e30, "optimizer.warmup_steps": 0, "optimizer.max_skipped": 3}  # fmt: skip
    training = lab.start(lab.folder / "numbers", 20, **fields)
    training.wait()
    training.check(1, "number 4 in a row")
    skipped = sum(line.endswith("The step is skipped.") for line in training.lines)
    if skipped != 3 or not re.search(r"Images \[\d", training.errors):
        raise FaultError(training.errors)
    return Outcome("loss and gradient no numbers", skipped + 1, skipped, "named", "skipped and counted, then the run ends")  # fmt: skip


def killed_host(lab: Lab, times: int) -> Outcome:
    """One of two processes is killed; both are started again."""
    workdir, slowest = lab.folder / "hosts", 0.0
    steps = 6 * times + 4

    def pair() -> list[Training]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        return [lab.start(workdir, steps, f"--distributed={i}/2@{address}") for i in range(2)]

    for number in range(times):
        both = pair()
        both[0].read_until(r"^step ")
        victim, other = (both[1], both[0]) if number % 2 == 0 else (both[0], both[1])
        victim.kill()
        slowest = max(slowest, other.wait())
        # Where the first host is lost, XLA itself ends the process.
        words = "another process of this run" if victim is both[1] else "detected fatal errors"
        if other.process.returncode == 0 or words not in other.errors:
            raise FaultError(f"exit {other.process.returncode}: {other.errors}")
    both = pair()
    for training in both:
        training.wait()
    for training in both:
        training.check(0)
    lab.finished(lab.folder / "one_host", steps)
    (first, _), (second, _) = state_of(workdir), state_of(lab.folder / "one_host")
    for ours, theirs in zip(*map(jax.tree.leaves, (first.params, second.params)), strict=True):
        if np.linalg.norm(ours - theirs) > 0.05 * np.linalg.norm(theirs) + 1e-3:
            raise FaultError("two hosts came to other parameters than one")
    return Outcome("SIGKILL of one of two hosts", times, "see SIGKILL", "0", f"the other ends after {slowest:.1f} s at most, with a message; both go on")  # fmt: skip


FAULTS: tuple[Callable[[Lab, int], Outcome], ...] = (
    killed, asked_to_end, full_disk, read_only_disk, two_in_one, killed_preparation, damaged_checkpoint,
    no_numbers, killed_host,
)  # fmt: skip
_NEEDS_MOUNT = (full_disk, read_only_disk)


def may_mount() -> bool:
    """Returns whether file systems can be mounted here."""
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.suppress(FaultError),
        _mounted(pathlib.Path(folder) / "disk", "size=64k"),
    ):
        return True
    return False


@contextlib.contextmanager
def _mounted(folder: pathlib.Path, options: str) -> Iterator[pathlib.Path]:
    folder.mkdir()
    _mount(folder, options)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def _mount(folder: pathlib.Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise FaultError(f"{folder}: cannot be mounted: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, help="default: a temporary directory")
    parser.add_argument(
        "--times", type=int, default=50, help="how often SIGKILL is sent; others a tenth"
    )
    parser.add_argument("--only", nargs="+", choices=[fault.__name__ for fault in FAULTS])
    options = parser.parse_args()
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.workdir or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        mounts = may_mount()
        for fault in FAULTS:
            if options.only and fault.__name__ not in options.only:
                continue
            if fault in _NEEDS_MOUNT and not mounts:
                outcomes.append(Outcome(fault.__name__.replace("_", " "), 0, "", "", "not tried: it needs to mount"))  # fmt: skip
                continue
            with tempfile.TemporaryDirectory(dir=folder) as own:
                lab = Lab(pathlib.Path(own))
                times = options.times if fault is killed else max(options.times // 10, 1)
                outcomes.append(fault(lab, times))
            print(outcomes[-1], flush=True)
    head = ("fault", "times", "lost steps", "lost or repeated examples", "outcome")
    print()
    print("\n".join(align_columns([head, *(tuple(map(str, dataclasses.astuple(o))) for o in outcomes)], left=1)))  # fmt: skip


if __name__ == "__main__":
    rows.run(main)
