"""`TrainState`: what training carries from step to step."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.models.variables import variable_shapes


class TrainState(flax.struct.PyTreeNode):
    """Step, parameters, batch statistics and optimiser state."""

    step: Any  # () int32
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `Pose2Seg.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(variables: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step."""
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))


def abstract_state(spec: NetworkSpec, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns zeros in the shape of a network's state, to restore a checkpoint into."""
    shapes = jax.eval_shape(
        functools.partial(create_state, optimizer=optimizer), variable_shapes(spec)
    )
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
