"""Opening what a config names: data sets, the stream of training examples, the evaluator."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import ml_collections

from pose2seg_jax import parallel, paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import evaluator as evaluation
from pose2seg_jax.people import coco, coco_layout
from pose2seg_jax.people.batches import BatchIds, TrainBatch
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.pose_estimators import EmbeddingPoses, PoseEstimator
from pose2seg_jax.program import pose_source
from pose2seg_jax.training.options import TrainOptions

if TYPE_CHECKING:
    from input_pipeline import pipeline

Stream = Iterator[tuple[TrainBatch, BatchIds]]


def coco_directory(config: ml_collections.ConfigDict) -> str | None:
    """Returns the COCO-layout directory of a config; generated people are made where they are missing."""
    if config.dataset.coco_dir or "synthetic" not in config.dataset:
        return config.dataset.coco_dir
    from input_pipeline import synthetic

    return synthetic.coco_dir(config.dataset)


def validation(config: ml_collections.ConfigDict) -> coco.Dataset:
    """Returns the annotations of the validation split, of the images that count."""
    dataset = coco.read(coco_layout.annotation_file(coco_directory(config), "validation"))
    listed = config.dataset.validation_images
    return dataset if listed is None else coco.with_listed_images(dataset, listed, "validation")


def open_evaluator(
    config: ml_collections.ConfigDict,
    network: Network,
    poses: str | None = None,
    skeleton: str | None = None,
) -> evaluation.StateEvaluator:
    """Returns the evaluator of a config's validation split.

    Args:
        config: the experiment.
        network: the network that will be scored.
        poses: in place of the annotated poses: a pose file, an estimator's name, or a weights file with pose heads. "own" is
            the network's own pose heads, where it has some, else MoveNet.
        skeleton: the parts of that file; None to find out.

    Raises:
        UserError: data is missing, or does not fit together.
    """
    dataset = validation(config)
    directory = coco_layout.image_directory(coco_directory(config), "validation")
    options = pose_source.Options.from_config(config.prediction, skeleton)

    def open_heads(variables: Any) -> PoseEstimator:
        return EmbeddingPoses(network, variables, **pose_source.heads_options(options))

    if not network.spec.segments:
        if poses not in (None, pose_source.OWN):
            raise UserError(
                f"--poses={poses} has no effect: the network has no segmentation branch, so its own poses are scored."
            )
        return evaluation.PoseEvaluator(open_heads, dataset, directory, name="poses: own")
    if poses is not None and network.spec.policy == "box":
        raise UserError("a network that aligns by box takes annotated boxes; leave out --poses.")
    source = poses if poses is None else pose_source.resolved(poses, network.spec)
    persons: Any
    if source is None:
        level = config.eval.pose_noise
        persons = evaluation.annotated_persons(dataset, level, config.seed)
        name = "Pose2Seg, annotated poses" + (f", noise {level:g}" if level else "")
    elif source == pose_source.HEADS:
        name = f"Pose2Seg, poses: {poses}"

        def persons(variables: Any) -> Any:
            return evaluation.found_persons(dataset, directory, open_heads(variables))

    elif pose_source.is_estimator(source):
        estimate = pose_source.open_estimator(source, options)
        persons = evaluation.found_persons(dataset, directory, estimate)
        name = f"Pose2Seg, poses: {os.path.basename(source)}"
    else:
        persons = evaluation.estimated_persons(
            source,
            dataset,
            *options.thresholds_of(source),
            drop_duplicates=options.drop_duplicates,
            skeleton=skeleton,
        )
        name = f"Pose2Seg, poses of {os.path.basename(source)}"
    if not network.exclusive:
        name += ", masks may overlap"
    return evaluation.Evaluator(
        network,
        dataset,
        directory,
        persons,
        name=name,
        annotated=poses is None,
        batch_size=config.eval.batch_size,
        persons_per_batch=config.eval.persons_per_batch,
    )


def stream_options(
    config: ml_collections.ConfigDict, options: TrainOptions
) -> "pipeline.StreamOptions":
    """Returns what a config's stream of training examples delivers."""
    from input_pipeline import pipeline
    from input_pipeline.crops import CropOptions

    augment, crops = config.augment, None
    if augment.crop_probability:
        margin = tuple(augment.crop_margin)
        crops = CropOptions(augment.crop_probability, margin, options.augment.extent)
    return pipeline.StreamOptions(
        options.seed, options.batch_size, config.persons_per_batch, config.model.image_size, crops
    )


def prepare_training(config: ml_collections.ConfigDict, content: str | None = None) -> Any:
    """Returns the TFDS builder of the training split, its data prepared; the first process does it alone.

    Args:
        config: the experiment.
        content: `training_content`, where it is known already.
    """
    from input_pipeline.coco_human import coco_human_dataset_builder as coco_human

    return parallel.first_process_first(
        "prepared",
        lambda: coco_human.prepare(
            coco_directory(config),
            config.dataset.data_dir,
            poses=config.dataset.train_poses,
            fingerprint=content,
        ),
    )


def training_content(config: ml_collections.ConfigDict) -> str:
    """Returns a name of the content of the training split."""
    from input_pipeline.coco_human import coco_human_dataset_builder as coco_human

    poses = config.dataset.train_poses
    if poses is not None and not paths.resolve(poses).is_file():
        raise UserError(f"config field dataset.train_poses: {poses} is no file.")
    return coco_human.content_fingerprint(coco_directory(config), "train", poses)


def open_stream(
    config: ml_collections.ConfigDict, options: TrainOptions, builder: Any
) -> Callable[[int], Stream]:
    """Returns a function from a data position to the stream of training batches from there on."""
    from input_pipeline import pipeline

    stream = stream_options(config, options)
    process_index, process_count = parallel.processes()

    def start(position: int) -> Stream:
        return pipeline.train_batches(
            builder,
            stream,
            position=position,
            num_devices=parallel.num_local_devices(),
            process_index=process_index,
            process_count=process_count,
        )

    return start
