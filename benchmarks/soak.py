"""A long training of a tiny network: memory, open files and threads of the process, which must stay as they are.

    python -m benchmarks.soak --steps=5000 --output=soak.png

It logs, saves, evaluates and draws as often as a real run does in a hundred times as many steps. The last lines say how long
the process took to end.
"""

import argparse
import pathlib
import re
import sys
import tempfile
import threading
import time

import matplotlib
import numpy as np

from benchmarks import lab, rows
from pose2seg_jax.errors import UserError

_EVERY = 1.0  # seconds between two looks
_NAMES = ("memory (MB)", "open files", "threads")
_FIELDS = {"log_every": 10, "checkpoint_every": 50, "panels_every": 500, "eval_every": 1000}
_RISE = 0.05  # of the memory, from the middle of the run to its end, at most
_PATIENCE = 3 * 3600  # seconds


def _look(pid: int) -> tuple[float, int, int] | None:
    """Memory in MB, open files and threads of a process; None where it has ended."""
    process = pathlib.Path(f"/proc/{pid}")
    try:
        status = (process / "status").read_text()
        files = len(list((process / "fd").iterdir()))
    except OSError:
        return None
    found = {name: re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE) for name in ("VmRSS", "Threads")}  # fmt: skip
    if not all(found.values()):
        return None
    memory, threads = (int(match[1]) for match in found.values() if match)
    return memory / 1024, files, threads


def _run(folder: pathlib.Path, steps: int) -> tuple[list[tuple[float, ...]], float]:
    """Trains; returns what was seen after which step, and the seconds from the last line to the end of the process."""
    training = lab.Lab(folder, _PATIENCE).start(folder / "run", steps, **_FIELDS)
    reader = threading.Thread(target=training.read_until, args=("(?!)",))
    reader.start()
    seen: list[tuple[float, ...]] = []
    while training.process.poll() is None:
        time.sleep(_EVERY)
        now = _look(training.process.pid)
        if training.steps and now is not None:
            seen.append((max(training.steps), *now))
    reader.join()
    ended = time.monotonic()
    training.wait()
    training.check(0)
    return seen, ended - training.last_line


def _draw(seen: np.ndarray, target: pathlib.Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(3, 1, sharex=True, figsize=(7, 6), layout="constrained")
    for axis, name, values in zip(axes, _NAMES, seen.T[1:], strict=True):
        axis.plot(seen[:, 0], values, linewidth=1)
        axis.set_ylim(0, 1.2 * values.max())
        axis.set_ylabel(name)
    axes[-1].set_xlabel("steps")
    figure.savefig(target, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--output", type=pathlib.Path, help="a PNG with the curves")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        looks, end = _run(pathlib.Path(folder), options.steps)
    seen = np.asarray(looks, float)
    if len(seen) < 10:
        raise UserError(f"--steps={options.steps}: is over too soon to see anything.")
    if options.output:
        _draw(seen, options.output)
    middle, last = (
        np.median(part[:, 1:], axis=0) for part in np.array_split(seen[len(seen) // 2 :], 5)[::4]
    )
    print(f"{'':12} {'half-way':>9} {'at the end':>11} {'most':>8}")
    for name, before, after, most in zip(
        _NAMES, middle, last, seen[:, 1:].max(axis=0), strict=True
    ):
        print(f"{name:12} {before:9.0f} {after:11.0f} {most:8.0f}")
    print(f"{options.steps} steps; the process ended {end:.1f} s after its last line")
    if last[0] > (1 + _RISE) * middle[0] or last[1] > middle[1] + 2 or last[2] > middle[2] + 2:
        sys.exit("error: memory, open files or threads grow.")


if __name__ == "__main__":
    rows.run(main)
