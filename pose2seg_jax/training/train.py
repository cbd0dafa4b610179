"""Training: resumable, data-parallel, watched."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from input_pipeline import pipeline, synthetic
from input_pipeline.coco_human import coco_human_dataset_builder as coco_human
from pose2seg_jax import parallel
from pose2seg_jax.alignment import affine_align, geometry, skeleton, templates
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import evaluate
from pose2seg_jax.models import Pose2Seg
from pose2seg_jax.people import parts
from pose2seg_jax.pictures import visualize
from pose2seg_jax.training import augment, losses, run_record, train_state
from pose2seg_jax.training.checkpoints import Checkpoints
from pose2seg_jax.training.metrics_log import MetricsLog
from pose2seg_jax.training.train_state import TrainState
from pose2seg_jax.weights import files as weights

_NUM_PANELS = 8


class NonFiniteLossError(UserError):
    """The loss stopped being a number."""


def train(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
    """Trains up to `config.num_steps` and evaluates; goes on from the newest checkpoint.

    Returns:
        The metrics of the final evaluation.

    Raises:
        NonFiniteLossError: with the step and the ids of the batch. The last good checkpoint stays.
        UserError: the config, the data or the run cannot be trained; the message says why.
    """
    process_index, process_count = parallel.processes()
    coco_dir = parallel.first_process_first("generated", lambda: synthetic.coco_dir(config.dataset))
    checkpoints = Checkpoints(workdir, keep_latest=config.keep_latest, keep_best=config.keep_best)
    resumes = checkpoints.latest_step() is not None
    pose_templates: Array = (
        run_record.read(config, workdir) if resumes else templates.load(config.align.templates)
    )
    # What only the evaluation needs is checked now, not after hours of training.
    evaluator = evaluate.Evaluator(config, pose_templates)
    start: dict[str, Any] = {}
    if config.init_weights and not resumes:
        start = weights.load_for(config, config.init_weights)
    elif not resumes and config.model.backbone_type == "efficientnet_lite0_fpn":
        raise UserError(
            "config field init_weights is empty, but the first stages of efficientnet_lite0_fpn stay as they"
            " start: convert ImageNet's weights first, see configs/coco_human_lite.py."
        )
    builder = parallel.first_process_first(
        "prepared", lambda: coco_human.prepare(coco_dir, config.dataset.data_dir, "train")
    )
    model = train_state.create_model(config, parallel.AXIS)
    optimizer = train_state.create_optimizer(config)
    state = train_state.create_state(config, model, optimizer, jax.random.key(config.seed))
    state = state.replace(**start)
    position = 0
    if resumes:
        state, position = checkpoints.restore(state)
    first = int(state.step)
    parallel.check_same("the step to go on from", first)
    state = parallel.replicate(state)
    log = MetricsLog(workdir, config.num_steps, config.batch_size, quiet=process_index > 0)
    if first:
        log.say(f"goes on from step {first} in {workdir}")
    elif not process_index:
        run_record.write(config, workdir)
    run_step = parallel.train_step(make_train_step(config, model, optimizer, pose_templates))
    draw_panels = make_panels(config, model, pose_templates)
    batches = pipeline.train_batches(
        builder,
        config,
        position=position,
        num_devices=parallel.num_local_devices(),
        process_index=process_index,
        process_count=process_count,
    )

    schedule = train_state.create_schedule(config)
    pending: tuple[int, Any, Any] | None = None
    results: dict[str, float] = {}
    with contextlib.closing(checkpoints), contextlib.closing(log):
        for step in range(first + 1, config.num_steps + 1):
            batch = next(batches)
            state, metrics = run_step(state, for_device(batch))
            position += config.batch_size
            # The check of a step waits for its result, so it is done while the next one runs.
            if pending is not None:
                _check_finite(*pending)
            pending = (step, metrics, batch)
            last = step == config.num_steps
            evaluates = last or (config.eval_every and step % config.eval_every == 0)
            if step % config.log_every == 0 or last or step == first + 1:
                values = {name: float(value) for name, value in metrics.items()}
                values["learning_rate"] = float(schedule(step))
                log.progress(step, values)
            if step % config.panels_every == 0 or last:
                log.images(step, draw_panels(state, batch))
            if evaluates or step % config.checkpoint_every == 0:
                _check_finite(*pending)
                results = {}
                try:
                    if evaluates:
                        results = _evaluate(evaluator, state, log)
                finally:  # an evaluation that fails must not cost the steps before it
                    checkpoints.save(state, position, results or None)
                log.restart_clock()
        if first >= config.num_steps:
            log.say(f"already trained for {first} steps; raise --config.num_steps to go on.")
    parallel.wait_for_all("trained")
    return results


def make_train_step(
    config: ml_collections.ConfigDict,
    model: Pose2Seg,
    optimizer: optax.GradientTransformation,
    pose_templates: Array,
) -> Callable[[TrainState, dict[str, Array]], tuple[TrainState, dict[str, Array]]]:
    """The step that `parallel.train_step` runs: align, predict, compare, update.

    Sums and counts are added up over the devices, so the result does not depend on how persons are
    spread over them.
    """
    roi_size, options = config.model.roi_size, config.align
    jitters = options.jitter_rotation or options.jitter_scale or options.jitter_translation

    def step(state: TrainState, batch: dict[str, Array]):
        canvas = augment.to_canvas(config, batch)
        alignment = _align(config, pose_templates, canvas)
        matrices = alignment.matrix
        if jitters:
            # Keyed by the person, so that it does not depend on how they are spread.
            key = jax.random.fold_in(jax.random.key(config.seed), state.step)
            matrices = affine_align.jitter_matrices(
                jax.vmap(jax.random.fold_in, (None, 0))(key, batch["person_id"]),
                matrices,
                roi_size,
                rotation=options.jitter_rotation,
                scale=options.jitter_scale,
                translation=options.jitter_translation,
            )
        targets = augment.align_masks(canvas, matrices, roi_size)
        valid = canvas.valid & jnp.any(targets > 0, axis=(1, 2))
        count = jnp.maximum(parallel.sum_over_devices(jnp.sum(valid)), 1)

        def loss_fn(params):
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                canvas.images,
                canvas.poses,
                matrices,
                batch["image_index"],
                valid,
                train=True,
                mutable=["batch_stats"],
            )
            loss = losses.mask_loss(logits, targets, valid, config.loss.dice)
            return loss / count, (logits, updates)

        (loss, (logits, updates)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        sums = {
            "loss": loss,
            "roi_iou": jnp.sum(losses.mask_iou(logits, targets) * valid) / count,
            "fallback": jnp.sum(alignment.fallback & valid) / count,
        }
        grads, metrics = parallel.sum_over_devices((grads, sums))
        metrics["gradient_norm"] = optax.tree.norm(grads)
        metrics["persons"] = count
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        return TrainState(state.step + 1, params, updates["batch_stats"], opt_state), metrics

    return step


def make_panels(
    config: ml_collections.ConfigDict, model: Pose2Seg, pose_templates: Array
) -> Callable[[TrainState, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """A function that draws, for some persons of a batch: image, aligned ROI, skeleton, masks."""
    roi_size = config.model.roi_size
    limbs = parts.LIMB_PRESETS[config.model.limbs] or parts.PAPER_LIMBS

    @jax.jit
    def predict(variables, batch):
        canvas = augment.to_canvas(config, batch)
        matrices = _align(config, pose_templates, canvas).matrix
        images = canvas.images.astype(jnp.float32)
        index = batch["image_index"]
        logits: Any = model.apply(
            variables, canvas.images, canvas.poses, matrices, index, canvas.valid
        )
        placed = geometry.apply_to_poses(matrices, canvas.poses)
        return canvas.valid, {
            "image": canvas.images[index],
            "roi": affine_align.align_to_roi(images, index, matrices, roi_size),
            "skeleton": skeleton.skeleton_features(placed, roi_size, limbs),
            "predicted": jax.nn.sigmoid(logits),
            "true": augment.align_masks(canvas, matrices, roi_size),
        }

    def draw(state: TrainState, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        first = {name: values[0] for name, values in for_device(batch).items()}
        valid, parts = parallel.to_host(predict(parallel.to_host(state.variables), first))
        return {
            f"persons/{slot}": visualize.training_panel(
                **{name: values[slot] for name, values in parts.items()}
            )
            for slot in np.flatnonzero(valid)[:_NUM_PANELS]
        }

    return draw


def _align(
    config: ml_collections.ConfigDict, pose_templates: Array, canvas: augment.Canvas
) -> affine_align.Alignment:
    side, method = config.dataset.image_size, config.align.method
    return affine_align.align_persons(
        method,
        canvas.poses,
        augment.boxes(canvas) if method == "box" else None,
        pose_templates,
        (side, side),
        config.model.roi_size,
        reflect=config.align.reflect,
        indices=config.model.sampling == "indices",
    )


def for_device(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The part of a batch of the stream that the train step takes."""
    batch = {name: values for name, values in batch.items() if name != "image_id"}
    return batch | {"person_id": batch["person_id"].astype(np.uint32)}


def _check_finite(step: int, metrics: dict[str, Array], batch: dict[str, np.ndarray]) -> None:
    loss = float(metrics["loss"])
    if not (np.isfinite(loss) and np.isfinite(float(metrics["gradient_norm"]))):
        persons = batch["person_id"][batch["person_id"] > 0]
        raise NonFiniteLossError(
            f"step {step}: the loss is {loss} and the gradient's norm"
            f" {float(metrics['gradient_norm'])}. Images {batch['image_id'].ravel().tolist()},"
            f" persons {persons.tolist()}. Lower optimizer.learning_rate, or look at these images;"
            " the same command goes on from the last checkpoint."
        )


def _evaluate(
    evaluator: evaluate.Evaluator, state: TrainState, log: MetricsLog
) -> dict[str, float]:
    """Every process for itself: the others would only wait."""
    evaluation = evaluator.run(parallel.to_host(state.variables))
    results = evaluation.summary()
    log.say(evaluation.table())
    log.scalars(int(state.step), {f"validation/{name}": results[name] for name in results})
    return results
