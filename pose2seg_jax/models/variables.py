"""Parameters and batch statistics of a network: made, described, compared."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Key

from pose2seg_jax.models.network_spec import NetworkSpec
from pose2seg_jax.models.pose2seg import Pose2Seg


def init_variables(spec: NetworkSpec, key: Key[jax.Array, ""]) -> dict[str, Any]:
    """Returns fresh variables: what `Pose2Seg.apply` takes."""
    return run_once(functools.partial(_init, spec), key)


def variable_shapes(spec: NetworkSpec) -> dict[str, Any]:
    """Returns what `init_variables` would, as jax.ShapeDtypeStruct."""
    return jax.eval_shape(lambda: _init(spec, jax.random.key(0)))


def _init(spec: NetworkSpec, key: Key[jax.Array, ""]) -> Any:
    side = spec.image_size
    return Pose2Seg(spec).init(
        key,
        jnp.zeros((1, side, side, 3), jnp.uint8),
        jnp.zeros((1, 17, 3)),
        jnp.zeros((1, 2, 3)),
        jnp.zeros(1, jnp.int32),
        jnp.ones(1, bool),
    )


def run_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compiles and runs; on a CPU without optimising, which takes longer than what it saves."""
    quick = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(function, compiler_options=quick)(*arguments)


def differences_of_arrays(found: Mapping[str, tuple], expected: Mapping[str, tuple]) -> list[str]:
    """Returns how names and shapes of saved arrays differ from a network's, one line each."""
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is not in the model" for name in sorted(found.keys() - expected.keys())]
    return problems + [
        f"{name} has shape {found[name]}, the model {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
