"""The training loop's own decisions."""

import jax.numpy as jnp
import numpy as np
import pytest

from pose2seg_jax.people.batches import BatchIds
from pose2seg_jax.training import train


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
