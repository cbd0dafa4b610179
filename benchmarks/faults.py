"""Faults that are injected into real trainings, and what each of them costs.

    python -m benchmarks.faults --workdir=DIR --times=50        # or `make faults`

Every training is `python main.py` with a tiny network on a few generated people, saved after every step. It is compared with
one that nothing happened to: the parameters, the moments of the optimiser and the batch statistics at the end, bit for bit,
and what it says of every step. A step of which nothing was said is a loss of its examples. Full and read-only disks are small
file systems in memory; to mount them needs root on Linux, and without it these two faults are left out.
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
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from benchmarks import rows
from benchmarks.lab import FaultError, Lab, Training
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation.coco_protocol import align_columns
from pose2seg_jax.program import runs
from pose2seg_jax.training import run_record

_PERSONS = re.compile(r" persons (\d+)")


@dataclasses.dataclass
class Outcome:
    """A row of the table."""

    fault: str
    times: int
    repeated_steps: int | str
    lost_persons: str
    outcome: str


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


def check_steps(trainings: list[Training], whole: Training) -> tuple[int, str]:
    """Compares what trainings of one run have said of each step with one that nothing happened to.

    Returns:
        How many steps were taken more than once, and how many persons were lost of all that the steps had.

    Raises:
        FaultError: a step had other numbers, and so other images, or there was none.
    """
    seen: set[int] = set()
    repeated = 0
    for training in trainings:
        for step, values in training.steps.items():
            if whole.steps[step] != values:
                raise FaultError(f"step {step}: {values}, and without a fault {whole.steps[step]}")
            repeated += step in seen
            seen.add(step)
    persons = {step: int(_PERSONS.findall(said)[0]) for step, said in whole.steps.items()}
    if not persons:
        raise FaultError("no training has said anything of a step")
    lost = sum(count for step, count in persons.items() if step not in seen)
    if lost:
        raise FaultError(f"of steps {sorted(persons.keys() - seen)} nothing was said")
    return repeated, f"{lost} of {sum(persons.values())}"


def killed(lab: Lab, times: int) -> Outcome:
    """SIGKILL at random moments, most of them within a save, since every step is saved."""
    chance, steps = random.Random(0), 4 * times + 10
    whole = lab.finished(lab.folder / "whole", steps)
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
    repeated, lost = check_steps(trainings, whole)
    return Outcome("SIGKILL", done, repeated, lost, f"equal bit for bit; {incomplete} incomplete checkpoints, each named and removed")  # fmt: skip


def asked_to_end(lab: Lab, times: int) -> Outcome:
    """SIGTERM and SIGINT in turn."""
    steps, slowest = 6 * times + 4, 0.0
    whole = lab.finished(lab.folder / "whole_asked", steps)
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
    repeated, lost = check_steps(trainings, whole)
    if repeated:
        raise FaultError(f"{repeated} steps were taken twice")
    check_equal(lab.folder / "asked", lab.folder / "whole_asked")
    return Outcome("SIGTERM, SIGINT", times, 0, lost, f"exit status 0 after {slowest:.1f} s at most; equal bit for bit")  # fmt: skip


def full_disk(lab: Lab, times: int) -> Outcome:
    """A file system that is too small for the third checkpoint, of which two are kept, then a larger one."""
    del times
    whole = lab.finished(lab.folder / "whole_disk", 8)
    pages = [-(-file.stat().st_size // 4096) for file in (lab.folder / "whole_disk/checkpoints/8").rglob("*")]  # fmt: skip
    with _mounted(lab.folder / "disk", f"size={4 * int(2.6 * sum(pages)) + 64}k") as disk:
        training = lab.start(disk / "run", 8)
        training.wait()
        training.check(1, "a checkpoint cannot be written")
        last = int(state_of(disk / "run")[0].step)
        _mount(disk, "remount,size=100m")
        resumed = lab.finished(disk / "run", 8)
        check_equal(disk / "run", lab.folder / "whole_disk")
    repeated, lost = check_steps([training, resumed], whole)
    if repeated != max(training.steps) - last:
        raise FaultError(f"{repeated} steps were taken twice")
    return Outcome("the disk is full", 1, repeated, lost, "one line; the last checkpoint stays; goes on where there is room; equal bit for bit")  # fmt: skip


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
    return Outcome("the disk is read-only", 1, 0, "", "one line; the checkpoint stays")


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
    return Outcome("two in one directory", 1, 0, "", "the second is refused, the first goes on")


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
    return Outcome("SIGKILL while data is prepared", times, 0, "", "prepared anew, nothing is left behind")  # fmt: skip


def damaged_checkpoint(lab: Lab, times: int) -> Outcome:
    """A checkpoint that is half as long as it was."""
    del times
    workdir = lab.folder / "damaged"
    first = lab.finished(workdir, 3)
    for file in (workdir / "checkpoints/3/state").rglob("*"):
        if file.is_file():
            os.truncate(file, file.stat().st_size // 2)
    training = lab.start(workdir, 5)
    training.wait()
    training.check(1, "checkpoints/3: is damaged and cannot be read")
    shutil.move(workdir / "checkpoints/3", lab.folder / "moved_away")
    resumed = lab.finished(workdir, 5)
    whole = lab.finished(lab.folder / "undamaged", 5)
    check_equal(workdir, lab.folder / "undamaged")
    repeated, lost = check_steps([first, resumed], whole)
    return Outcome("a damaged checkpoint", 1, repeated, lost, "named; moved away, the run goes on from the one before; equal bit for bit")  # fmt: skip


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
    trainings = []
    for number in range(times):
        both = lab.start_hosts(2, workdir, steps)
        trainings.append(both[0])
        both[0].read_until(r"^step ")
        victim, other = (both[1], both[0]) if number % 2 == 0 else (both[0], both[1])
        victim.kill()
        slowest = max(slowest, other.wait())
        # Where the first host is lost, XLA itself ends the process.
        words = "another process of this run" if victim is both[1] else "detected fatal errors"
        if other.process.returncode == 0 or words not in other.errors:
            raise FaultError(f"exit {other.process.returncode}: {other.errors}")
    trainings.append(_finish(lab.start_hosts(2, workdir, steps)))
    repeated = _compare_hosts(trainings, workdir, lab.finished(lab.folder / "one_host", steps), lab.folder / "one_host")  # fmt: skip
    return Outcome("SIGKILL of one of two hosts", times, *repeated, f"the other ends after {slowest:.1f} s at most, with a message; both go on")  # fmt: skip


def hosts_asked_to_end(lab: Lab, times: int) -> Outcome:
    """SIGTERM to one of three processes, and the run goes on with two; then to one of these, and it goes on with one."""
    fields = {"batch_size": 12, "persons_per_batch": 96}  # room for all: nobody is left out
    slowest, repeated, lost = 0.0, 0, ""
    for number in range(times):
        workdir, alone = lab.folder / f"three_{number}", lab.folder / f"three_alone_{number}"
        trainings = []
        for count in (3, 2):
            hosts = lab.start_hosts(count, workdir, 12, **fields)
            trainings.append(hosts[0])
            hosts[0].read_until(r"^step ")
            hosts[number % count].process.send_signal(signal.SIGTERM)
            start = time.monotonic()
            _finish(hosts)
            slowest = max(slowest, time.monotonic() - start)
            if not hosts[0].said("asked to end: saved after step"):
                raise FaultError("\n".join(hosts[0].lines))
        trainings.append(lab.finished(workdir, 12, **fields))
        whole = lab.finished(alone, 12, **fields)
        repeated, lost = _compare_hosts(trainings, workdir, whole, alone)
        if repeated:
            raise FaultError(f"{repeated} steps were taken twice")
    return Outcome("SIGTERM to one of three hosts, then of two", 2 * times, repeated, lost, f"all save and end with exit status 0 after {slowest:.1f} s at most; goes on with two, then one")  # fmt: skip


def _finish(hosts: list[Training]) -> Training:
    """Waits for all processes, and returns the first, which speaks.

    Raises:
        FaultError: one of them fails.
    """
    for training in hosts:
        training.wait()
    for training in hosts:
        training.check(0)
    return hosts[0]


def _compare_hosts(
    trainings: list[Training], workdir: pathlib.Path, whole: Training, alone: pathlib.Path
) -> tuple[int, str]:
    """Compares a run of several processes with one of one process; the order of their sums differs, so their last digits do.

    Returns:
        How many steps were taken more than once, and how many persons were lost of all that the steps had.

    Raises:
        FaultError: a step had other persons, or the parameters are far from those of one process.
    """
    (ours, _), (theirs, _) = state_of(workdir), state_of(alone)
    for one, other in zip(*map(jax.tree.leaves, (ours.params, theirs.params)), strict=True):
        if np.linalg.norm(one - other) > 0.05 * np.linalg.norm(other) + 1e-3:
            raise FaultError("several hosts came to other parameters than one")
    first = whole.steps
    for training in trainings:
        for step, said in training.steps.items():
            if _PERSONS.findall(said) != _PERSONS.findall(first[step]):
                raise FaultError(f"step {step}: {said}, and with one process {first[step]}")
    steps = [step for training in trainings for step in training.steps]
    if set(steps) != set(first):
        raise FaultError(f"steps {sorted(set(first) ^ set(steps))} are missing")
    return len(steps) - len(
        set(steps)
    ), f"0 of {sum(int(_PERSONS.findall(said)[0]) for said in first.values())}"


FAULTS: tuple[Callable[[Lab, int], Outcome], ...] = (
    killed, asked_to_end, full_disk, read_only_disk, two_in_one, killed_preparation, damaged_checkpoint,
    no_numbers, killed_host, hosts_asked_to_end,
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
    outcomes: list[Outcome] = []
    failed = False
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
                try:
                    outcomes.append(fault(lab, times))
                except FaultError as error:  # the others are tried all the same
                    failed = True
                    outcomes.append(Outcome(fault.__name__.replace("_", " "), times, "", "", f"FAILED: {error}"))  # fmt: skip
            print(outcomes[-1], flush=True)
    head = ("fault", "times", "steps taken again", "persons lost", "outcome")
    print()
    print("\n".join(align_columns([head, *(tuple(map(str, dataclasses.astuple(o))) for o in outcomes)], left=1)))  # fmt: skip
    if failed:
        raise UserError("a fault cost more than it may; see the table.")


if __name__ == "__main__":
    rows.run(main)
