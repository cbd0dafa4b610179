"""The training loop's own decisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_spec

from pose2seg_jax.people.batches import BatchIds
from pose2seg_jax.training import train
from pose2seg_jax.training.metrics_log import MetricsLog
from pose2seg_jax.training.optimizer import OptimizerOptions, create_optimizer


def test_steps_that_are_no_numbers_are_counted_and_named_and_end_the_training_where_they_are_many(
    tmp_path, capsys
):
    ids = BatchIds(np.array([[11, 12]]), np.array([[5, 0]]))
    log = MetricsLog(str(tmp_path), 10, 1)
    checks = train.StepChecks(log, 2, skipped=3)

    def add(step, finite, now=True):
        metrics = {"loss": jnp.ones(()), "gradient_norm": jnp.asarray(1.0 if finite else np.inf)}
        checks.add(step, metrics | {"finite": jnp.asarray(finite)}, ids, now=now)

    add(1, False)
    assert checks.skipped == 4
    assert capsys.readouterr().out == (
        "step 1: the loss is 1.0 and the gradient's norm inf. Images [11, 12], persons [5]. The step is skipped.\n"
    )
    add(2, False, now=False)  # looked at while the next one runs
    assert checks.skipped == 4
    add(3, True)
    assert checks.skipped == 5
    for step in (4, 5):
        add(step, False)
    with pytest.raises(
        train.NonFiniteLossError,
        match=r"step 6: .*\[11, 12\], persons \[5\]\. It is number 3 in a row",
    ):
        add(6, False)


def test_zero_is_never():
    assert [step for step in range(1, 9) if train.is_due(step, 3)] == [3, 6]
    assert not any(train.is_due(step, 0) for step in range(1, 9))


def test_the_logged_rate_is_the_one_that_was_used():
    """Optax counts steps from 0: the first step of a warm-up from a third of 0.3 has the rate 0.1."""
    options = OptimizerOptions(0.3, 1.0, "step", 2, (), 0.0, 0.0, 10)
    assert train.rate_of_step(options, 10, 1) == pytest.approx(0.1)
    assert train.rate_of_step(options, 10, 3) == pytest.approx(0.3)
    spec = tiny_spec()
    params = {"branch": {"kernel": jnp.zeros((1, 1))}}
    optimizer = create_optimizer(options, 10, spec)
    state = optimizer.init(params)
    for step in (1, 2, 3):  # Adam's steps of a constant gradient are the rate
        changes, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        used = -float(changes["branch"]["kernel"][0, 0])
        assert train.rate_of_step(options, 10, step) == pytest.approx(used, rel=1e-4)
