"""Two processes train as one with two devices does."""

import re
import subprocess
import sys

import numpy as np
from conftest import ROOT, quick_environment, tiny_flags

from benchmarks import rows
from pose2seg_jax.training.checkpoints import Checkpoints

_OPTIONS = [
    "--config=configs/coco_human_small.py",
    "--config.optimizer.schedule=step",
    # Twelve persons for eight slots: the same four are left out wherever the images are.
    *tiny_flags(batch_size=8, persons_per_batch=8),
]


def _start(devices, *arguments):
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = quick_environment(XLA_FLAGS=flags, TF_CPP_MIN_LOG_LEVEL="3")
    return subprocess.Popen(
        [sys.executable, "main.py", *_OPTIONS, *arguments], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _finish(processes):
    try:
        outputs = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, error
    return [out for out, _ in outputs]


def _run_two(*arguments):
    address = rows.free_address()
    return _finish([_start(1, *arguments, f"--distributed={i}/2@{address}") for i in range(2)])


def _metrics(output, name):
    return [float(value) for value in re.findall(rf"^step .* {name} (\S+)", output, re.MULTILINE)]


def test_two_processes_train_as_one(coco_dir, tmp_path):
    common = [
        f"--config.dataset.coco_dir={coco_dir}",
        f"--config.dataset.data_dir={tmp_path / 'tfds'}",
    ]
    workdir = tmp_path / "two"
    first, second = _run_two(*common, f"--workdir={workdir}", "--config.num_steps=3")
    (alone,) = _finish([_start(2, *common, f"--workdir={tmp_path}/one", "--config.num_steps=3")])
    for name in ("loss", "gradient_norm", "persons"):
        assert len(_metrics(alone, name)) == 3
        # The order of the sums differs, and Adam's first steps make much of the smallest gradients.
        np.testing.assert_allclose(_metrics(first, name), _metrics(alone, name), rtol=0.02)
    np.testing.assert_allclose(_metrics(first, "loss")[0], _metrics(alone, "loss")[0], rtol=1e-3)
    # One of them speaks and writes.
    assert "COCOHUMAN (12 persons)" in first
    assert "step" not in second
    assert len(list(workdir.glob("events.out.tfevents*"))) == 1

    resumed, _ = _run_two(*common, f"--workdir={workdir}", "--config.num_steps=4")
    assert "goes on from step 3 " in resumed
    with Checkpoints(workdir, read_only=True) as checkpoints:
        assert checkpoints.latest_step() == 4
