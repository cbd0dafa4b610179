"""Trainings of a tiny network in processes of their own, which are watched, stopped and compared (faults.py, soak.py)."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from benchmarks import rows

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


class FaultError(Exception):
    """Something was lost, or went wrong without a word."""


class Lab:
    """A folder with data, and trainings on it."""

    def __init__(self, folder: pathlib.Path, patience: float = _PATIENCE):
        self.folder = folder
        self._patience = patience
        self._environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # a few steps are over sooner
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
        return Training(command, self._environment, self._patience)

    def start_hosts(self, count: int, workdir: pathlib.Path, steps: int, **fields: Any) -> "list[Training]":  # fmt: skip
        """Starts a training of several processes, or goes on with one."""
        address = rows.free_address()
        return [
            self.start(workdir, steps, f"--distributed={index}/{count}@{address}", **fields)
            for index in range(count)
        ]

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

    def __init__(self, command: list[str], environment: dict[str, str], patience: float):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.lines: list[str] = []
        self.last_line = time.monotonic()  # when it came
        self.errors = ""  # what it has written to standard error, once it has ended
        self._patience = threading.Timer(patience, self.process.kill)
        self._patience.daemon = True
        self._patience.start()

    def read_until(self, wanted: str) -> bool:
        """Reads what it says until a line matches; False where it ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self.last_line = time.monotonic()
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
