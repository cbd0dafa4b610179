"""A training step that cannot be taken."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import drawn_batch, split_batch, tiny_config, tiny_weights

from pose2seg_jax import parallel
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.training.optimizer import create_optimizer
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.state import create_state
from pose2seg_jax.training.step import make_train_step


@pytest.mark.usefixtures("quick_compile")
def test_a_step_that_is_no_number_changes_nothing():
    config = tiny_config("", "")
    spec, options = NetworkSpec.from_config(config.model), TrainOptions.from_config(config)
    optimizer = create_optimizer(options.optimizer, options.num_steps, spec)
    weights = tiny_weights().variables
    state = parallel.to_host(create_state(weights, optimizer))
    batch = split_batch(drawn_batch(np.random.RandomState(0)), 1)
    step = parallel.train_step(make_train_step(spec, options, optimizer), jax.devices()[:1])

    def taken(before):
        after, metrics = step(before, batch)
        return parallel.to_host(after), parallel.to_host(metrics)

    after, metrics = taken(state)
    assert metrics["finite"]
    changed = jax.tree.map(lambda x, y: bool(np.any(x != y)), after, state)
    assert all(jax.tree.leaves(changed.batch_stats))
    assert np.mean(jax.tree.leaves(changed.params)) > 0.9
    head = weights["params"]["branch"]
    for broken in (np.nan, np.inf):
        spoilt = jax.tree.map(lambda x, broken=broken: np.full_like(x, broken), head)
        before = state.replace(params={**state.params, "branch": spoilt})
        after, metrics = taken(before)
        assert not metrics["finite"]
        assert after.step == 1  # the batch is used up
        jax.tree.map(np.testing.assert_array_equal, after.replace(step=state.step), before)


def test_long_gradients_are_clipped():
    """Adam divides by the gradients' size, so its second moments say how long they were; by hand: (1 - b2) g^2."""
    config = tiny_config("", "")
    config.optimizer.clip_norm = 2.0
    spec, options = NetworkSpec.from_config(config.model), TrainOptions.from_config(config)
    optimizer = create_optimizer(options.optimizer, options.num_steps, spec)
    params = {"branch": {"kernel": jnp.zeros((2, 2))}}
    for size, seen in ((3.0, 1.0), (0.5, 0.5)):  # of norms 6 and 1
        gradients = {"branch": {"kernel": jnp.full((2, 2), size)}}
        _, state = optimizer.update(gradients, optimizer.init(params), params)
        (moments,) = [x.nu for x in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "nu")) if hasattr(x, "nu") and jax.tree.leaves(x.nu)]  # fmt: skip
        np.testing.assert_allclose(jax.tree.leaves(moments)[0], 1e-3 * seen**2, rtol=1e-5)
    # A run may begin to clip: its state has the same structure.
    plain = create_optimizer(dataclasses.replace(options.optimizer, clip_norm=0.0), 4, spec)
    assert jax.tree.structure(plain.init(params)) == jax.tree.structure(optimizer.init(params))
