"""The training loop: resumable, data-parallel, watched."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from pose2seg_jax import parallel, random_roots
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation.evaluator import StateEvaluator
from pose2seg_jax.models.variables import init_variables
from pose2seg_jax.people.batches import BatchIds, TrainBatch
from pose2seg_jax.training.checkpoints import Checkpoints
from pose2seg_jax.training.metrics_log import MetricsLog
from pose2seg_jax.training.optimizer import OptimizerOptions, create_optimizer, create_schedule
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.run_record import RunRecord
from pose2seg_jax.training.state import TrainState, create_state
from pose2seg_jax.training.step import make_panels, make_train_step

Batches = Iterator[tuple[TrainBatch, BatchIds]]


class NonFiniteLossError(UserError):
    """The loss stopped being a number."""


def train(
    workdir: str,
    record: RunRecord,
    options: TrainOptions,
    checkpoints: Checkpoints,
    log: MetricsLog,
    open_batches: Callable[[int], Batches],
    evaluator: StateEvaluator,
    start: Any = None,
) -> dict[str, float]:
    """Trains up to `options.num_steps` and evaluates; goes on from the newest checkpoint.

    Args:
        workdir: of the run.
        record: what the run is; it is written before the first step, and again where something has changed.
        options: how to train.
        checkpoints: of the run.
        log: of the run.
        open_batches: a data position (examples consumed) to the stream of batches from there on.
        evaluator: scores a state.
        start: variables to start from; None for fresh ones.

    Returns:
        The metrics of the final evaluation; none where the run had ended before.

    Raises:
        NonFiniteLossError: with the step and the ids of the batch. The last good checkpoint stays.
    """
    spec, position = record.spec, 0
    optimizer = create_optimizer(options.optimizer, options.num_steps, spec)
    if start is None:
        start = init_variables(spec, random_roots.key(options.seed, "initialisation"))
    state = create_state(start, optimizer)
    if checkpoints.latest_step() is not None:
        state, position = checkpoints.restore(state)
    first = int(state.step)
    parallel.check_same("the step to go on from", first)
    state = parallel.replicate(state)
    if first:
        log.say(f"goes on from step {first} in {workdir}")
    if parallel.processes()[0] == 0:
        record.write(workdir)
    run_step = parallel.train_step(make_train_step(spec, options, optimizer))
    draw_panels = make_panels(spec, options)
    batches = open_batches(position)

    pending: tuple[int, Any, BatchIds] | None = None
    results: dict[str, float] = {}
    for step in range(first + 1, options.num_steps + 1):
        batch, ids = next(batches)
        state, metrics = run_step(state, batch)
        position += options.batch_size
        # The check of a step waits for its result, so it is done while the next one runs.
        if pending is not None:
            check_finite(*pending)
        pending = (step, metrics, ids)
        last = step == options.num_steps
        evaluates = last or is_due(step, options.eval_every)
        if last or step == first + 1 or is_due(step, options.log_every):
            values = {name: float(value) for name, value in metrics.items()}
            values["learning_rate"] = rate_of_step(options.optimizer, options.num_steps, step)
            log.progress(step, values)
        if last or is_due(step, options.panels_every):
            log.images(step, draw_panels(state, batch))
        if evaluates or is_due(step, options.checkpoint_every):
            check_finite(*pending)
            results = {}
            try:
                if evaluates:
                    results = _evaluate(evaluator, state, log)
            finally:  # an evaluation that fails must not cost the steps before it
                checkpoints.save(state, position, results or None)
            log.restart_clock()
    if first >= options.num_steps:
        more = "raise --config.num_steps to go on"
        if options.optimizer.schedule == "cosine":  # its rate has come down to 0
            more = "to train on, start a new run from its weights (--config.init_weights)"
        log.say(f"already trained for {first} steps; {more}.")
    parallel.wait_for_all("trained")
    return results


def is_due(step: int, every: int) -> bool:
    """Returns whether something that happens every so many steps happens now; 0 for never."""
    return every > 0 and step % every == 0


def rate_of_step(options: OptimizerOptions, num_steps: int, step: int) -> float:
    """Returns the learning rate that a step used; steps count from 1 here, and from 0 in Optax."""
    return float(create_schedule(options, num_steps)(step - 1))


def check_finite(step: int, metrics: dict[str, Array], ids: BatchIds) -> None:
    """Checks the result of a step.

    Raises:
        NonFiniteLossError: loss or gradient are no numbers.
    """
    loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
    if not (np.isfinite(loss) and np.isfinite(norm)):
        persons = ids.person_id[ids.person_id > 0]
        raise NonFiniteLossError(
            f"step {step}: the loss is {loss} and the gradient's norm {norm}. Images"
            f" {ids.image_id.ravel().tolist()}, persons {persons.tolist()}. Lower"
            " optimizer.learning_rate, or look at these images; the same command goes on from the last"
            " checkpoint."
        )


def _evaluate(evaluator: StateEvaluator, state: TrainState, log: MetricsLog) -> dict[str, float]:
    """Every process for itself: the others would only wait."""
    evaluation = evaluator.run(jax.device_get(state.variables))
    results = evaluation.summary()
    log.say(evaluation.table())
    log.scalars(int(state.step), {f"validation/{name}": results[name] for name in results})
    return results
