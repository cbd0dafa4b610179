"""The training loop: resumable, data-parallel, watched."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import optax

from pose2seg_jax import parallel, random_roots
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation.evaluator import StateEvaluator
from pose2seg_jax.models.variables import init_variables
from pose2seg_jax.people.batches import BatchIds, TrainBatch
from pose2seg_jax.training.checkpoints import Checkpoints, Progress
from pose2seg_jax.training.interruption import AskedToEnd, Interruption
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

    Where the process is asked to end, by SIGTERM or Ctrl-C, it saves after the step that it is in, and returns.

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
        The metrics of the final evaluation; none where the run had ended before, or was asked to end.

    Raises:
        NonFiniteLossError: more than `options.optimizer.max_skipped` steps in a row had a loss or a gradient that is no
            number. The last good checkpoint stays.
    """
    optimizer = create_optimizer(options.optimizer, options.num_steps, record.spec)
    state, progress = _begin(record, options, optimizer, checkpoints, log, start)
    first = int(state.step)
    parallel.check_same("the step to go on from", first)
    state = parallel.replicate(state)
    if first:
        log.say(f"goes on from step {first} in {workdir}")
    if parallel.processes()[0] == 0:
        record.write(workdir)
    run_step = parallel.train_step(make_train_step(record.spec, options, optimizer))
    draw_panels = make_panels(record.spec, options)
    batches = open_batches(progress.position)
    checks = StepChecks(log, options.optimizer.max_skipped, progress.skipped)

    results: dict[str, float] = {}
    with Interruption() as interruption:
        asked = interruption.asked(first)
        if progress.owes_evaluation and not asked:
            try:
                results = _evaluate(evaluator, state, log, interruption)
            except AskedToEnd:
                asked = True
        for step in range(first + 1, options.num_steps + 1):
            if asked:
                break
            batch, ids = next(batches)
            state, metrics = run_step(state, batch)
            last, asked = step == options.num_steps, interruption.asked(step)
            evaluates = last or is_due(step, options.eval_every)
            saves = evaluates or asked or is_due(step, options.checkpoint_every)
            logs = last or step == first + 1 or is_due(step, options.log_every)
            checks.add(step, metrics, ids, now=saves or logs)
            if logs:
                _log_step(log, options, step, metrics, checks.skipped)
            if last or is_due(step, options.panels_every):
                log.images(step, draw_panels(state, batch))
            if not saves:
                continue
            parallel.check_replicas(state)
            position = progress.position + (step - first) * options.batch_size
            reached, results = Progress(position, checks.skipped, evaluates and asked), {}
            try:
                if evaluates and not asked:
                    results = _evaluate(evaluator, state, log, interruption)
            except AskedToEnd:
                asked, reached = True, reached._replace(owes_evaluation=True)
            finally:  # an evaluation that fails must not cost the steps before it
                checkpoints.save(state, reached, results or None)
            log.restart_clock()
        checkpoints.wait()  # a signal must not end the process while it writes
        if asked:
            log.say(f"asked to end: saved after step {int(state.step)}; the same command goes on")
    if first >= options.num_steps:
        more = "raise --config.num_steps to go on"
        if options.optimizer.schedule == "cosine":  # its rate has come down to 0
            more = "to train on, start a new run from its weights (--config.init_weights)"
        log.say(f"already trained for {first} steps; {more}.")
    parallel.wait_for_all("trained")
    return results


def _begin(
    record: RunRecord,
    options: TrainOptions,
    optimizer: optax.GradientTransformation,
    checkpoints: Checkpoints,
    log: MetricsLog,
    start: Any,
) -> tuple[TrainState, Progress]:
    """The state of the newest checkpoint, or a fresh one, and how far the run is."""
    if start is None:
        start = init_variables(record.spec, random_roots.key(options.seed, "initialisation"))
    state = create_state(start, optimizer)
    for step in checkpoints.incomplete:
        log.say(
            f"the checkpoint of step {step} is incomplete, since its writer was stopped; it is removed"
        )
    if checkpoints.latest_step() is None:
        return state, Progress(0)
    return checkpoints.restore(state)


class StepChecks:
    """Counts the steps that changed nothing because their loss or gradient was no number.

    Looking at a step waits for its result, so it is done while the next one runs.

    Attributes:
        skipped: such steps of the run so far.
    """

    def __init__(self, log: MetricsLog, limit: int, skipped: int = 0):
        """Starts.

        Args:
            log: where they are named.
            limit: so many in a row are allowed.
            skipped: how many there were before.
        """
        self.skipped = skipped
        self._log, self._limit = log, limit
        self._in_a_row = 0
        self._waiting: list[tuple[int, dict[str, Array], BatchIds]] = []

    def add(self, step: int, metrics: dict[str, Array], ids: BatchIds, *, now: bool) -> None:
        """Looks at the steps before, and where it is wanted `now`, at this one.

        Raises:
            NonFiniteLossError: there are too many in a row.
        """
        self._waiting.append((step, metrics, ids))
        for _ in range(len(self._waiting) - (not now)):
            self._look(*self._waiting.pop(0))

    def _look(self, step: int, metrics: dict[str, Array], ids: BatchIds) -> None:
        if metrics["finite"]:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        persons = ids.person_id[ids.person_id > 0]
        what = (
            f"step {step}: the loss is {float(metrics['loss'])} and the gradient's norm"
            f" {float(metrics['gradient_norm'])}. Images {ids.image_id.ravel().tolist()}, persons {persons.tolist()}."
        )
        if self._in_a_row > self._limit:
            raise NonFiniteLossError(
                f"{what} It is number {self._in_a_row} in a row. Lower optimizer.learning_rate, set optimizer.clip_norm,"
                " or look at these images; the same command goes on from the last checkpoint."
            )
        self._log.say(f"{what} The step is skipped.")


def is_due(step: int, every: int) -> bool:
    """Returns whether something that happens every so many steps happens now; 0 for never."""
    return every > 0 and step % every == 0


def rate_of_step(options: OptimizerOptions, num_steps: int, step: int) -> float:
    """Returns the learning rate that a step used; steps count from 1 here, and from 0 in Optax."""
    return float(create_schedule(options, num_steps)(step - 1))


def _log_step(
    log: MetricsLog, options: TrainOptions, step: int, metrics: dict[str, Array], skipped: int
) -> None:
    """Logs what a step said; steps that were skipped, this one included, did not move the schedule on."""
    values = {name: float(value) for name, value in metrics.items() if name != "finite"}
    updates = step - skipped + (not metrics["finite"])
    values["learning_rate"] = rate_of_step(options.optimizer, options.num_steps, updates)
    log.progress(step, values | {"skipped": skipped})


def _evaluate(
    evaluator: StateEvaluator, state: TrainState, log: MetricsLog, interruption: Interruption
) -> dict[str, float]:
    """All processes together.

    Raises:
        AskedToEnd: before it was done.
    """
    with interruption.at_once():
        evaluation = evaluator.run(jax.device_get(state.variables))
    results = evaluation.summary()
    log.say(evaluation.table())
    log.scalars(int(state.step), {f"validation/{name}": results[name] for name in results})
    return results
