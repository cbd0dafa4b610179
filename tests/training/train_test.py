"""The training loop's own decisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_spec

from pose2seg_jax.people.batches import BatchIds
from pose2seg_jax.training import train
from pose2seg_jax.training.optimizer import OptimizerOptions, create_optimizer


def test_a_loss_that_is_not_finite_stops_with_the_ids():
    ids = BatchIds(np.array([[11, 12]]), np.array([[5, 0]]))
    for loss, norm in ((np.nan, 1.0), (1.0, np.inf)):
        metrics = {"loss": jnp.asarray(loss), "gradient_norm": jnp.asarray(norm)}
        with pytest.raises(
            train.NonFiniteLossError, match=r"step 7: the loss is .*\[11, 12\], persons \[5\]"
        ):
            train.check_finite(7, metrics, ids)
    train.check_finite(7, {"loss": jnp.ones(()), "gradient_norm": jnp.ones(())}, ids)


def test_zero_is_never():
    assert [step for step in range(1, 9) if train.is_due(step, 3)] == [3, 6]
    assert not any(train.is_due(step, 0) for step in range(1, 9))


def test_the_logged_rate_is_the_one_that_was_used():
    """Optax counts steps from 0: the first step of a warm-up from a third of 0.3 has the rate 0.1."""
    options = OptimizerOptions(0.3, 1.0, "step", 2, (), 0.0)
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
