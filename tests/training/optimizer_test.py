"""The schedule, and which parameters move."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import tiny_spec

from configs import coco_human
from pose2seg_jax.errors import UserError
from pose2seg_jax.models.variables import run_once, variable_shapes
from pose2seg_jax.training.optimizer import OptimizerOptions, create_optimizer, create_schedule
from pose2seg_jax.training.options import TrainOptions

_PLAIN = OptimizerOptions(1e-2, 0.2, "step", 0, (), 0.1, 0.0, 10)


def test_learning_rates_follow_the_authors_schedule():
    options = TrainOptions.from_config(coco_human.get_config())
    schedule = create_schedule(options.optimizer, options.num_steps)
    rates = [float(schedule(step)) for step in (0, 500, 1000, 212249, 212251, 283051)]
    np.testing.assert_allclose(rates, [2e-4 / 3, 2e-4 * 2 / 3, 2e-4, 2e-4, 2e-5, 2e-6], rtol=1e-4)
    config = coco_human.get_config()
    config.optimizer.schedule = "linear"
    with pytest.raises(
        UserError, match=r"optimizer\.schedule is 'linear'; it must be one of step, cos"
    ):
        TrainOptions.from_config(config)


def _moved(fields):
    """How far each parameter moves in one step with a gradient of 1 everywhere, and the state."""
    spec = tiny_spec(**fields)
    shapes = variable_shapes(spec)["params"]
    params = jax.tree.map(lambda x: jnp.ones(x.shape), shapes)
    optimizer = create_optimizer(_PLAIN, 10, spec)

    def step(params):
        state = optimizer.init(params)
        return optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)[0], state

    return *run_once(step, params), params


def test_parameters_are_told_apart_by_their_paths():
    changes, state, params = _moved({"backbone": {"name": "efficientnet_lite0_fpn", "features": 8}})
    backbone = changes["backbone"]
    for frozen in (
        backbone["Conv_0"]["kernel"],
        backbone["InvertedResidual_2"]["Pointwise_0"]["Dense_0"]["kernel"],
        backbone["InvertedResidual_9"]["Depthwise_0"]["kernel"],
    ):
        assert not np.any(frozen)  # neither a step nor weight decay
    # Kernels decay: 1e-2 (1 + 0.1); biases do not. The backbone takes a fifth of it.
    later = backbone["InvertedResidual_9"]
    np.testing.assert_allclose(later["Pointwise_0"]["Dense_0"]["kernel"], -2.2e-3, rtol=1e-4)
    np.testing.assert_allclose(later["Depthwise_0"]["bias"], -2e-3, rtol=1e-4)
    np.testing.assert_allclose(changes["branch"]["Conv_0"]["Conv_0"]["kernel"], -1.1e-2, rtol=1e-4)
    # Adam keeps two moments of each parameter that moves, and nothing of the others.
    moving = sum(int(np.any(c)) * c.size for c in jax.tree.leaves(changes))
    kept = sum(x.size for x in jax.tree.leaves(state) if x.ndim)
    assert kept == 2 * moving < 2 * sum(x.size for x in jax.tree.leaves(params))


def test_all_of_an_hourglass_moves():
    changes, _, _ = _moved({})
    assert all(np.all(change) for change in jax.tree.leaves(changes))
    assert isinstance(create_optimizer(_PLAIN, 10, tiny_spec()), optax.GradientTransformation)
