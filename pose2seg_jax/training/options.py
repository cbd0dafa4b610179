"""`TrainOptions`: what training takes from a config, beside the network and the data."""

import dataclasses
from typing import Any

import ml_collections

from pose2seg_jax.errors import UserError
from pose2seg_jax.models.pose2seg import DTYPES
from pose2seg_jax.training.augment import AugmentOptions
from pose2seg_jax.training.optimizer import OptimizerOptions, create_schedule


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How a network is trained; configs/coco_human.py explains the fields."""

    seed: int
    num_steps: int
    batch_size: int
    dtype: str
    dice: float
    edges: float
    pose_weight: float
    tag_weight: float
    peak_sigma: float
    augment: AugmentOptions
    optimizer: OptimizerOptions
    log_every: int
    checkpoint_every: int
    eval_every: int
    panels_every: int
    keep_latest: int
    keep_best: int

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "TrainOptions":
        """Reads an experiment.

        Raises:
            UserError: a value that nothing can be done with; the message names the field.
        """
        for field, least in (
            ("seed", 0), ("num_steps", 0), ("batch_size", 1), ("persons_per_batch", 1), ("log_every", 0),
            ("checkpoint_every", 0), ("eval_every", 0), ("panels_every", 0), ("keep_latest", 1),
            ("keep_best", 0),
        ):  # fmt: skip
            if config[field] < least:
                raise UserError(
                    f"config field {field} is {config[field]}; it must be {least} or more."
                )
        if config.dtype not in DTYPES:
            raise UserError(
                f"config field dtype is '{config.dtype}'; it must be one of {', '.join(DTYPES)}."
            )
        _check_ranges(config)
        optimizer = _take(OptimizerOptions, config.optimizer)
        create_schedule(optimizer, config.num_steps)  # checks its name
        return _take(
            cls,
            config,
            dice=config.loss.dice,
            edges=config.loss.edges,
            pose_weight=config.loss.poses,
            tag_weight=config.loss.tags,
            peak_sigma=config.loss.peak_sigma,
            augment=_take(AugmentOptions, config.augment),
            optimizer=optimizer,
        )


def _check_ranges(config: ml_collections.ConfigDict) -> None:
    augment, optimizer = config.augment, config.optimizer
    for field, value, fine in (
        ("augment.scale", augment.scale, len(augment.scale) == 2 and 0 < augment.scale[0] <= augment.scale[1]),
        ("augment.crop_margin", augment.crop_margin, len(augment.crop_margin) == 2 and augment.crop_margin[0] > 0),
        ("augment.crop_probability", augment.crop_probability, 0 <= augment.crop_probability <= 1),
        ("augment.color", augment.color, 0 <= augment.color <= 1),
        ("augment.pose_noise", augment.pose_noise, augment.pose_noise >= 0),
        ("augment.roi_scale", augment.roi_scale, 0 <= augment.roi_scale < 1),
        ("loss.dice", config.loss.dice, config.loss.dice >= 0),
        ("loss.edges", config.loss.edges, config.loss.edges >= 0),
        ("loss.poses", config.loss.poses, config.loss.poses >= 0),
        ("loss.tags", config.loss.tags, config.loss.tags >= 0),
        ("loss.peak_sigma", config.loss.peak_sigma, config.loss.peak_sigma > 0),
        ("optimizer.learning_rate", optimizer.learning_rate, optimizer.learning_rate >= 0),
        ("optimizer.warmup_steps", optimizer.warmup_steps, optimizer.warmup_steps >= 0),
        ("optimizer.clip_norm", optimizer.clip_norm, optimizer.clip_norm >= 0),
        ("optimizer.max_skipped", optimizer.max_skipped, optimizer.max_skipped >= 0),
    ):  # fmt: skip
        if not fine:
            raise UserError(
                f"config field {field} is {value}, with which nothing can be trained; configs/coco_human.py"
                " says what it is."
            )


def _take(options: type, config: ml_collections.ConfigDict, **made: Any) -> Any:
    """An options dataclass from the fields of a config that have its names."""
    values = {
        field.name: config[field.name]
        for field in dataclasses.fields(options)
        if field.name not in made
    }
    frozen = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in values.items()}
    return options(**frozen, **made)
