"""Checkpoints: the latest and the best stay, and fit one network only."""

import jax
import numpy as np
import pytest
from conftest import tiny_config, tiny_spec

from pose2seg_jax.training.checkpoints import CheckpointError, Checkpoints, Progress
from pose2seg_jax.training.optimizer import create_optimizer
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.state import abstract_state


def _state(**fields):
    options = TrainOptions.from_config(tiny_config("", ""))
    spec = tiny_spec(**fields)
    return abstract_state(spec, create_optimizer(options.optimizer, options.num_steps, spec))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    state = _state()
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(state, Progress(8, 3))
    with Checkpoints(tmp_path / "run", read_only=True) as checkpoints:
        restored, progress = checkpoints.restore(state)
        assert progress == Progress(8, 3)
        jax.tree.map(np.testing.assert_array_equal, restored, state)
        with pytest.raises(CheckpointError, match=r"was made with another network.*differences"):
            checkpoints.restore(_state(**{"branch.features": 8}))


def test_the_best_checkpoint_is_kept_besides_the_latest(tmp_path):
    state = _state()
    for step, ap in ((1, 0.3), (2, 0.9), (3, np.nan), (4, 0.2), (5, None)):
        # Opened again each time, as runs that are resumed do.
        with Checkpoints(tmp_path, keep_latest=1, keep_best=1) as checkpoints:
            saved = state.replace(step=np.asarray(step, np.int32))
            checkpoints.save(saved, Progress(step), None if ap is None else {"AP": ap})
    kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert kept == {2, 5}
    # What a kill in the middle of writing leaves behind.
    (tmp_path / "checkpoints/6.orbax-checkpoint-tmp/state").mkdir(parents=True)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        for which, step in (("latest", 5), ("best", 2), ("2", 2)):
            assert checkpoints.restore(state, which)[0].step == step
        with pytest.raises(CheckpointError, match="has no checkpoint '3'; it has steps 2, 5"):
            checkpoints.restore(state, "3")
    with Checkpoints(tmp_path, keep_latest=1, keep_best=1) as checkpoints:
        assert checkpoints.incomplete == [6]
    assert not (tmp_path / "checkpoints/6.orbax-checkpoint-tmp").exists()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.incomplete == []


def test_a_damaged_checkpoint_is_named(tmp_path):
    state = _state()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, Progress(0))
    for file in (tmp_path / "checkpoints/0/state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with Checkpoints(tmp_path, read_only=True) as checkpoints, pytest.raises(CheckpointError, match=r"checkpoints/0: is damaged and cannot be read .* Move this folder away"):  # fmt: skip
        checkpoints.restore(state)
