"""What training carries from step to step, and the optimiser and schedule that move it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jaxtyping import Int, PRNGKeyArray

from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import BACKBONES, Pose2Seg, hourglass, layers, resnet_fpn
from pose2seg_jax.people.parts import LIMB_PRESETS

# Fields of config.model that runs and weights from before they existed do not name.
ADDED_MODEL_FIELDS = {
    "branch_depth": 0,
    "backbone_shrink": 1.0,
    "backbone_type": "hourglass",
    "sampling": "centers",
    "head_convs": 1,
}


class TrainState(flax.struct.PyTreeNode):
    """Step, parameters, batch statistics and optimiser state."""

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `Pose2Seg.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_model(config: ml_collections.ConfigDict, axis_name: str | None = None) -> Pose2Seg:
    """The network of a config; `axis_name` is set where it trains under pmap.

    Raises:
        UserError: a size or a name that the network does not know.
    """
    options = config.model
    for field, value, known in (
        ("model.dtype", options.dtype, ("float32", "bfloat16")),
        ("model.limbs", options.limbs, tuple(LIMB_PRESETS)),
        ("model.backbone_type", options.backbone_type, BACKBONES),
        ("model.sampling", options.sampling, ("centers", "indices")),
        ("align.method", config.align.method, ("pose", "score", "box")),
    ):
        if value not in known:
            raise UserError(
                f"config field {field} is '{value}'; it must be one of {', '.join(known)}."
            )
    coarsest = resnet_fpn.COARSEST
    if options.backbone_type == "hourglass":
        coarsest = hourglass.STRIDE * 2**options.backbone_depth
    for field, least in (("branch_depth", 0), ("backbone_shrink", 1), ("head_convs", 0)):
        if options[field] < least:
            raise UserError(f"config field model.{field} is {options[field]}; {least} or more.")
    if options.sampling == "indices" and options.backbone_shrink > 1:
        raise UserError(
            "config field model.backbone_shrink must be 1 with model.sampling='indices': the CVPR 2019"
            " version has no such backbone."
        )
    roi_multiple = 2 * 2**options.branch_depth
    ratio = layers.ratio(options.backbone_shrink)
    if abs(options.backbone_shrink - ratio) > 1e-4:
        raise UserError(
            f"config field model.backbone_shrink is {options.backbone_shrink}; it must be a ratio of"
            " whole numbers, the smaller one up to 64, to four decimals."
        )
    side = config.dataset.image_size / ratio
    if side % coarsest or options.roi_size % roi_multiple:
        raise UserError(
            f"config field dataset.image_size over model.backbone_shrink ({ratio}) is {float(side):g}"
            f" and model.roi_size {options.roi_size}; they must be multiples of {coarsest} and"
            f" {roi_multiple}."
        )
    return Pose2Seg(**config.model, axis_name=axis_name)


def create_state(
    config: ml_collections.ConfigDict, model: Pose2Seg, optimizer: optax.GradientTransformation,
    key: PRNGKeyArray,
) -> TrainState:  # fmt: skip
    """A fresh state."""
    return _state(init_variables(config, model, key), optimizer)


def _state(variables: Any, optimizer: optax.GradientTransformation) -> TrainState:
    params, batch_stats = variables["params"], variables["batch_stats"]
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))


def init_variables(
    config: ml_collections.ConfigDict, model: Pose2Seg, key: PRNGKeyArray
) -> dict[str, Any]:
    """Fresh parameters and batch statistics."""
    return run_once(functools.partial(_init, config, model), key)


def variable_shapes(config: ml_collections.ConfigDict, model: Pose2Seg) -> dict[str, Any]:
    """What `init_variables` returns, as jax.ShapeDtypeStruct."""
    return jax.eval_shape(functools.partial(_init, config, model), jax.random.key(0))


def _init(config: ml_collections.ConfigDict, model: Pose2Seg, key: PRNGKeyArray) -> Any:
    side = config.dataset.image_size
    return model.init(
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


def misfits(found: Mapping[str, tuple], expected: Mapping[str, tuple]) -> list[str]:
    """How the names and shapes of saved arrays differ from a model's, one line each."""
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is not in the model" for name in sorted(found.keys() - expected.keys())]
    return problems + [
        f"{name} has shape {found[name]}, the model {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]


def abstract_state(config: ml_collections.ConfigDict) -> TrainState:
    """Zeros in the shape of a config's state, to restore a checkpoint into."""
    variables = variable_shapes(config, create_model(config))
    shapes = jax.eval_shape(
        functools.partial(_state, optimizer=create_optimizer(config)), variables
    )
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def create_schedule(config: ml_collections.ConfigDict) -> optax.Schedule:
    """Linear warm-up from a third of the rate, then steps of x 0.1 (authors' code) or a cosine to 0.

    Raises:
        UserError: an unknown schedule.
    """
    options = config.optimizer
    rate, warmup = options.learning_rate, options.warmup_steps
    if options.schedule == "step":
        # Boundaries count from the end of the warm-up.
        scales = {int(step) - warmup: 0.1 for step in options.decay_steps}
        after = optax.piecewise_constant_schedule(rate, scales)
    elif options.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, max(config.num_steps - warmup, 1))
    else:
        raise UserError(
            f"config field optimizer.schedule is '{options.schedule}'; it must be 'step' or 'cosine'."
        )
    return optax.join_schedules([optax.linear_schedule(rate / 3, rate, warmup), after], [warmup])


def create_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """Adam with the config's schedule; weight decay, where there is any, on kernels only.

    The backbone moves at `optimizer.backbone_rate` of the rate; what has no gradient at all is frozen, and
    does not decay either.
    """

    def is_kernel(params: Any) -> Any:
        return jax.tree.map(lambda x: x.ndim > 1, params)

    decay, rate = config.optimizer.weight_decay, config.optimizer.backbone_rate
    adamw = optax.adamw(create_schedule(config), weight_decay=decay, mask=is_kernel)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        changes, state = adamw.update(grads, state, params)
        changes = jax.tree.map(lambda c, g: jnp.where(jnp.any(g != 0), c, 0), changes, grads)
        return changes | {"backbone": optax.tree.scale(rate, changes["backbone"])}, state

    return optax.GradientTransformation(adamw.init, update)
