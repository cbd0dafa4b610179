"""One, two and three processes that go on training the packaged network and evaluate it: all that they say, side by side.

    python -m benchmarks.hosts --coco_dir=COCO

Each process has one CPU device. All runs see the same images in the same batches, so their numbers must be equal, but for the order
in which floating-point numbers are added up. It took 27 minutes on two cores that did other work too.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from benchmarks import rows
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people import coco_layout
from pose2seg_jax.weights import files as weights

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_COUNTS = (1, 2, 3)  # processes
_FIELDS = {
    "init_weights": weights.PACKAGED, "batch_size": 12, "persons_per_batch": 48, "eval.batch_size": 6,
    "eval.persons_per_batch": 24, "num_steps": 3, "log_every": 1, "panels_every": 0, "checkpoint_every": 0,
    # Adam's first step has a sign for each gradient, however small: with a high rate, rounding would show in the next steps.
    "optimizer.learning_rate": 1e-4,
}  # fmt: skip
_STEP = re.compile(r"^step (\d+)/\d+  (.*)$", re.MULTILINE)
_NAMES = ("loss", "gradient_norm", "persons", "roi_iou", "fallback")
_CLOSE = 0.01  # largest relative difference, and largest difference of an AP


def _write_sample(coco_dir: str, target: pathlib.Path, sizes: dict[str, int]) -> None:
    """The first images with persons of each split, in COCO's layout."""
    (target / "annotations").mkdir()
    for split, count in sizes.items():
        source = coco_layout.annotation_file(coco_dir, split)
        content = json.loads(source.read_text())
        posed = {a["image_id"] for a in content["annotations"] if a.get("num_keypoints")}
        content["images"] = [image for image in content["images"] if image["id"] in posed][:count]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
        (target / "annotations" / source.name).write_text(json.dumps(content))
        images = pathlib.Path(coco_layout.image_directory(coco_dir, split)).resolve()
        os.symlink(images, target / coco_layout.SPLITS[split])


def _run(folder: pathlib.Path, count: int) -> str:
    """Trains and evaluates with so many processes; returns what the first one says.

    Raises:
        UserError: one of them fails.
    """
    address = rows.free_address()
    fields = {**_FIELDS, "dataset.coco_dir": folder, "dataset.data_dir": folder / "data"}
    command = [
        sys.executable, str(_ROOT / "main.py"), "--config=configs/coco_human_lite.py", f"--workdir={folder / str(count)}",
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]  # fmt: skip
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }

    def process(index: int) -> str:
        joined = [f"--distributed={index}/{count}@{address}"] if count > 1 else []
        done = subprocess.run([*command, *joined], env=environment, capture_output=True, text=True, check=False)  # fmt: skip
        if done.returncode:
            raise UserError(f"process {index} of {count} failed:\n{done.stderr[-3000:]}")
        return done.stdout

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return next(iter(pool.map(process, range(count))))


def _numbers(said: str) -> dict[str, float]:
    """Every metric of a run by its name."""
    found = {}
    for step, text in _STEP.findall(said):
        for name in _NAMES:
            found[f"step {step}: {name}"] = float(re.search(rf"\b{name} (\S+)", text)[1])  # type: ignore[index]
    for line in said.splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        if len(cells) > 4 and cells[2] in ("1.0", "own"):
            for name, value in zip(("AP", "AP50", "AP75"), cells[3:6], strict=True):
                if value != "-":
                    found[f"{cells[0]}, scores {cells[2]}: {name}"] = float(value)
        elif match := re.match(r"(mean IoU .*): (\S+)$", line):
            found[match[1]] = float(match[2])
    return found


def _differ(name: str, values: Sequence[float]) -> bool:
    away = float(np.ptp(values))
    return away > _CLOSE * (1 if "AP" in name else max(map(abs, values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco_dir", required=True)
    parser.add_argument("--train", type=int, default=24, help="number of images to train on")
    parser.add_argument(
        "--validation", type=int, default=30, help="number of images to evaluate on"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        sizes = {"train": options.train, "validation": options.validation}
        _write_sample(options.coco_dir, folder, sizes)
        runs = [_numbers(_run(folder, count)) for count in _COUNTS]
    if not runs[0] or any(run.keys() != runs[0].keys() for run in runs):
        raise UserError("the runs do not name the same metrics.")
    table = [("", *(f"{count} processes" if count > 1 else "1 process" for count in _COUNTS))]
    table += [(name, *(f"{run[name]:.4g}" for run in runs)) for name in runs[0]]
    print("\n".join(coco_protocol.align_columns(table, left=1)))
    if differing := [name for name in runs[0] if _differ(name, [run[name] for run in runs])]:
        raise UserError(f"the processes do not agree: {', '.join(differing)}.")
    print(f"equal to {_CLOSE:.0%}")


if __name__ == "__main__":
    rows.run(main)
