"""The learning rate's schedule, and Adam with it; which parameters move, and how fast."""

import dataclasses
from typing import Any

import jax
import optax

from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec

SCHEDULES = ("step", "cosine")


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """Fields of `config.optimizer`.

    Attributes:
        learning_rate: the highest.
        backbone_rate: share of it for the backbone.
        schedule: "step" or "cosine", see `create_schedule`.
        warmup_steps: steps from a third of the rate.
        decay_steps: steps at which the schedule "step" takes a tenth.
        weight_decay: of kernels.
        clip_norm: a longer gradient is scaled to this norm; 0 for never.
        max_skipped: so many updates in a row may be skipped because they are no numbers.
    """

    learning_rate: float
    backbone_rate: float
    schedule: str
    warmup_steps: int
    decay_steps: tuple[int, ...]
    weight_decay: float
    clip_norm: float
    max_skipped: int


def create_schedule(options: OptimizerOptions, num_steps: int) -> optax.Schedule:
    """Returns the rate of each step, counted from 0.

    A linear warm-up from a third of the rate; then x 0.1 at each of `decay_steps` (authors' code), or a cosine that
    reaches 0 at `num_steps`, if no step was skipped.

    Raises:
        UserError: an unknown schedule.
    """
    rate, warmup = options.learning_rate, options.warmup_steps
    if options.schedule == "step":
        # Boundaries count from the end of the warm-up.
        scales = {int(step) - warmup: 0.1 for step in options.decay_steps}
        after = optax.piecewise_constant_schedule(rate, scales)
    elif options.schedule == "cosine":
        after = optax.cosine_decay_schedule(rate, max(num_steps - warmup, 1))
    else:
        raise UserError(
            f"config field optimizer.schedule is '{options.schedule}'; it must be one of"
            f" {', '.join(SCHEDULES)}."
        )
    return optax.join_schedules([optax.linear_schedule(rate / 3, rate, warmup), after], [warmup])


def create_optimizer(
    options: OptimizerOptions, num_steps: int, spec: NetworkSpec
) -> optax.GradientTransformation:
    """Returns Adam with the schedule; weight decay, where there is any, on kernels only.

    Parameters are told apart by their paths: the backbone moves at `backbone_rate` of the rate, and what a
    backbone calls frozen (`is_frozen`) does not move, does not decay, has no moments and no part in the norm that is clipped.
    """
    schedule = create_schedule(options, num_steps)

    def is_kernel(params: Any) -> Any:
        return jax.tree.map(lambda x: x.ndim > 1, params)

    def adam() -> optax.GradientTransformation:
        return optax.adamw(schedule, weight_decay=options.weight_decay, mask=is_kernel)

    is_frozen = getattr(spec.make_backbone(), "is_frozen", lambda path: False)

    def label(path: Any, _: Any) -> str:
        first, *rest = (entry.key for entry in path)
        if first != "backbone":
            return "rest"
        return "frozen" if is_frozen(rest) else "backbone"

    def labels(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(label, params)

    moved = optax.multi_transform(
        {
            "rest": adam(),
            "backbone": optax.chain(adam(), optax.scale(options.backbone_rate)),
            "frozen": optax.set_to_zero(),
        },
        labels,
    )
    # The same parts with and without clipping, so that a run may begin or stop to clip.
    clip = optax.clip_by_global_norm(options.clip_norm) if options.clip_norm else optax.identity()
    without_frozen = optax.multi_transform(
        {"rest": optax.identity(), "backbone": optax.identity(), "frozen": optax.set_to_zero()},
        labels,
    )
    return optax.chain(without_frozen, clip, moved)
