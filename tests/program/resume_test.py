"""A run that was stopped and went on is the run that was not, bit for bit."""

import os
import signal
import time

import jax
import numpy as np
import pytest
from conftest import tiny_config

from input_pipeline import pipeline
from pose2seg_jax import parallel
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation.evaluator import Evaluator
from pose2seg_jax.program import runs
from pose2seg_jax.training import run_record
from pose2seg_jax.training import train as loop
from pose2seg_jax.training.interruption import Interruption
from pose2seg_jax.training.metrics_log import MetricsLog

pytestmark = pytest.mark.usefixtures("quick_compile")
_STEPS = 5  # of 4 images; the data set has 8


@pytest.fixture
def config(coco_dir, tmp_path):
    config = tiny_config(coco_dir, tmp_path / "tfds")
    config.num_steps, config.panels_every, config.checkpoint_every = _STEPS, 0, 100
    config.augment.pose_noise = 1.0
    return config


@pytest.fixture
def logged(monkeypatch):
    """Whatever is logged of the steps: (step, name, value)."""
    lines = []

    def note(self, step, metrics):
        lines.extend((step, name, float(value)) for name, value in sorted(metrics.items()))

    monkeypatch.setattr(MetricsLog, "progress", note)
    return lines


def _state(workdir):
    """What the newest checkpoint holds."""
    return runs.restore_state(run_record.read(workdir), workdir)


@pytest.mark.parametrize("devices", [1, 4])
def test_stopping_and_going_on_changes_no_bit(config, tmp_path, monkeypatch, logged, devices):
    """Stopped in the middle of an epoch and at the end of one, and read by other threads after that."""
    compiled = []
    take_step = parallel.train_step

    def some(step):  # the same step each time, which need not be compiled again
        compiled.extend([] if compiled else [take_step(step, jax.devices()[:devices])])
        return compiled[0]

    monkeypatch.setattr(parallel, "train_step", some)
    monkeypatch.setattr(parallel, "num_local_devices", lambda: devices)
    monkeypatch.setattr(loop, "_evaluate", lambda *_: {"AP": 0.5})
    runs.train(config, str(tmp_path / "whole"))
    whole, lines = _state(tmp_path / "whole"), list(logged)
    assert {step for step, _, _ in lines} == set(range(1, _STEPS + 1))
    logged.clear()
    for stop, threads in ((1, 2), (4, 1), (None, 3)):
        monkeypatch.setattr(pipeline, "PARALLEL_CALLS", threads)
        monkeypatch.setattr(Interruption, "asked", lambda self, step, stop=stop: step == stop)
        results = runs.train(config, str(tmp_path / "parts"))
        assert bool(results) == (stop is None)
    jax.tree.map(np.testing.assert_array_equal, _state(tmp_path / "parts"), whole)
    assert logged == lines


@pytest.fixture
def quick_steps(monkeypatch):
    """Steps that change nothing but their number, since nothing depends on more; what is called in the second."""
    in_the_second = []

    def counted(_):
        def step(state, batch):
            if state.step == 1:
                [call() for call in in_the_second]
            names = ("loss", "gradient_norm", "finite")
            metrics = {name: np.ones(()) for name in names}
            return state.replace(step=state.step + 1), metrics

        return step

    monkeypatch.setattr(parallel, "train_step", counted)
    return in_the_second


@pytest.mark.parametrize("asks", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_end_saves_first(config, tmp_path, quick_steps, capsys, asks):
    quick_steps.append(lambda: os.kill(os.getpid(), asks))
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert runs.train(config, str(tmp_path / "run")) == {}
    assert "asked to end: saved after step 2; the same command goes on" in capsys.readouterr().out
    state, progress = _state(tmp_path / "run")
    assert state.step == 2
    assert progress.position == 8
    assert handlers == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


@pytest.mark.usefixtures("quick_steps")
def test_an_evaluation_is_left_where_the_run_is_asked_to_end_and_made_up_for(config, tmp_path, monkeypatch, capsys):  # fmt: skip
    def evaluate(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)  # Python handles the signal before it goes on
        raise AssertionError("the evaluation went on")

    with monkeypatch.context() as patched:
        patched.setattr(Evaluator, "run", evaluate)
        assert runs.train(config, str(tmp_path / "run")) == {}
    assert f"asked to end: saved after step {_STEPS}" in capsys.readouterr().out
    assert _state(tmp_path / "run")[0].step == _STEPS
    assert runs.train(config, str(tmp_path / "run"))["AP"] >= 0
    assert "COCOHUMAN (12 persons)" in capsys.readouterr().out


def test_a_second_training_in_one_directory_is_refused(config, tmp_path, monkeypatch):
    workdir = str(tmp_path / "run")

    def meanwhile(*_):
        with pytest.raises(UserError, match=r"run: another process is training here\. Wait"):
            runs.train(config, workdir)
        return {}

    monkeypatch.setattr(loop, "train", meanwhile)
    runs.train(config, workdir)
