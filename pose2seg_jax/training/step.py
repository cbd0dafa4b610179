"""One training step, and pictures of what it sees."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pose2seg_jax import parallel, random_roots
from pose2seg_jax.alignment import geometry, policies, sampling, skeleton
from pose2seg_jax.alignment.affine_align import Alignment
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models import NetworkSpec, Pose2Seg
from pose2seg_jax.models.pose_head import PartMaps
from pose2seg_jax.people.batches import TrainBatch
from pose2seg_jax.people.parts import PAPER_LIMBS
from pose2seg_jax.pictures import panels
from pose2seg_jax.training import augment, losses, pose_losses
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.state import TrainState

_NUM_PANELS = 8


def make_train_step(
    spec: NetworkSpec, options: TrainOptions, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, TrainBatch], tuple[TrainState, dict[str, Array]]]:
    """Returns the step that `parallel.train_step` runs: align, predict, compare, update.

    Sums and counts are added up over the devices, so the result does not depend on how persons are
    spread over them. Where the loss or the gradient is no number, the step is counted and nothing else is changed.
    """
    model = Pose2Seg(spec, parallel.AXIS, options.dtype)
    roi_size, varies = spec.roi_size, options.augment
    jitters = varies.roi_rotation or varies.roi_scale or varies.roi_translation

    def step(state: TrainState, batch: TrainBatch):
        canvas = augment.move_to_canvas(varies, spec.image_size, options.seed, batch)
        alignment = _align(spec, canvas)
        matrices = alignment.matrix
        if jitters:
            # Keyed by the person, so that it does not depend on how they are spread.
            root = random_roots.key(options.seed, "alignment jitter")
            key = jax.random.fold_in(root, state.step)
            matrices = augment.jitter_matrices(
                jax.vmap(jax.random.fold_in, (None, 0))(key, batch.person_key),
                matrices,
                roi_size,
                rotation=varies.roi_rotation,
                scale=varies.roi_scale,
                translation=varies.roi_translation,
            )
        targets = augment.align_packed_masks(canvas, matrices, roi_size)
        valid = canvas.valid & jnp.any(targets > 0, axis=(1, 2))
        count = jnp.maximum(parallel.sum_over_devices(jnp.sum(valid)), 1)

        def loss_fn(params):
            outputs, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                canvas.images,
                canvas.poses,
                matrices,
                batch.image_index,
                valid,
                train=True,
                mutable=["batch_stats"],
            )
            loss: Any = jnp.zeros(())
            said: dict[str, Any] = {}
            if spec.segments:
                loss = (
                    losses.mask_loss(outputs.masks, targets, valid, options.dice, options.edges)
                    / count
                )
                iou = losses.mask_iou(outputs.masks, targets)
                said["roi_iou"] = jnp.sum(iou * valid) / count
            if spec.finds_poses:
                found = _pose_losses(outputs.parts, canvas, options)
                loss += options.pose_weight * found.weighted(options.tag_weight)
                said |= found._asdict()
            return loss, (said, updates)

        (loss, (said, updates)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        fallback = jnp.sum(alignment.fallback & valid) / count
        sums = {"loss": loss, "fallback": fallback, **said}
        grads, metrics = parallel.sum_over_devices((grads, sums))
        metrics["gradient_norm"] = optax.tree.norm(grads)
        metrics["persons"] = count
        changes, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        batch_stats = updates.get("batch_stats", state.batch_stats)  # a network may have none
        metrics["finite"] = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
        after = TrainState(state.step + 1, params, batch_stats, opt_state)
        unchanged = state.replace(step=state.step + 1)
        after = jax.tree.map(functools.partial(jnp.where, metrics["finite"]), after, unchanged)
        return after, metrics

    return step


def _pose_losses(
    heads: tuple[PartMaps, ...], canvas: augment.Canvas, options: TrainOptions
) -> pose_losses.PoseLosses:
    """The sum over the pose heads of what this device adds to the mean over the images of a step."""
    cells, side = heads[-1].heatmaps.shape[1], canvas.images.shape[1]
    scale = jnp.asarray([cells / side, cells / side, 1], jnp.float32)
    poses = canvas.image_poses * scale.reshape(1, 1, 1, 3)
    ignored = augment.ignored_cells(canvas, cells)
    found = [pose_losses.pose_losses(parts, poses, ignored, options.peak_sigma) for parts in heads]
    return jax.tree.map(lambda *values: sum(values) / options.batch_size, *found)


def make_panels(
    spec: NetworkSpec, options: TrainOptions
) -> Callable[[TrainState, TrainBatch], dict[str, np.ndarray]]:
    """Returns a function that draws, for some persons of a batch: image, aligned ROI, skeleton, masks.

    Nothing is drawn for a network without a segmentation branch.
    """
    if not spec.segments:
        return lambda state, batch: {}
    model = Pose2Seg(spec, dtype=options.dtype)
    roi_size, limbs = spec.roi_size, spec.limbs or PAPER_LIMBS

    @jax.jit
    def predict(variables, batch):
        canvas = augment.move_to_canvas(options.augment, spec.image_size, options.seed, batch)
        matrices = _align(spec, canvas).matrix
        images = canvas.images.astype(jnp.float32)
        index = batch.image_index
        outputs: Any = model.apply(
            variables, canvas.images, canvas.poses, matrices, index, canvas.valid
        )
        to_cells = geometry.compose(geometry.scaling(1 / spec.roi_stride), matrices)
        placed = geometry.apply_to_poses(to_cells, canvas.poses)
        return canvas.valid, {
            "image": canvas.images[index],
            "roi": sampling.align_to_roi(images, index, matrices, roi_size),
            "skeleton": skeleton.skeleton_features(placed, roi_size // spec.roi_stride, limbs),
            "predicted": jax.nn.sigmoid(outputs.masks),
            "true": augment.align_packed_masks(canvas, matrices, roi_size),
        }

    def draw(state: TrainState, batch: TrainBatch) -> dict[str, np.ndarray]:
        first = TrainBatch(*(values[0] for values in batch))
        valid, parts = parallel.to_host(predict(parallel.to_host(state.variables), first))
        return {
            f"persons/{slot}": panels.training_panel(
                **{name: values[slot] for name, values in parts.items()}
            )
            for slot in np.flatnonzero(valid)[:_NUM_PANELS]
        }

    return draw


def _align(spec: NetworkSpec, canvas: augment.Canvas) -> Alignment:
    side = spec.image_size
    return policies.align_persons(
        spec.policy,
        canvas.poses,
        augment.boxes(canvas) if spec.policy == "box" else None,
        spec.template_array,
        (side, side),
        spec.roi_size,
        reflect=spec.reflect,
        convention=spec.convention,
    )
