"""Photos and pose files as scenes, by the networks that all visitors of a page share."""

import functools
import pathlib

import numpy as np

from pose2seg_jax.people import pose_files
from pose2seg_jax.people.images import open_image
from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.pose_estimators import (
    EmbeddingPoses,
    EstimatedPoses,
    MoveNetPoses,
    PoseEstimator,
    embedding_poses,
    movenet_poses,
)
from pose2seg_jax.prediction.predictor import Pose2SegPredictor
from pose2seg_jax.prediction.scene import Scene
from pose2seg_jax.weights.files import Weights

FEWEST = 0.05  # the lowest score of a person whom the page can show


class Networks:
    """The networks of a page, which all of its visitors share."""

    def __init__(self, loaded: Weights, dtype: str = "float32"):
        """Compiles lazily.

        Args:
            loaded: a network with a segmentation branch.
            dtype: of the computation.
        """
        self._loaded, self._dtype = loaded, dtype

    @functools.cache  # noqa: B019 - a page lives as long as its program
    def predictor(self, flip: bool) -> Pose2SegPredictor:
        """Returns the network of the masks."""
        network = Network(self._loaded.spec, self._dtype, flip)
        return Pose2SegPredictor(network, self._loaded.variables)

    @functools.cache  # noqa: B019
    def estimator(self) -> PoseEstimator:
        """Returns the network of the poses; it keeps doubtful parts and people, which the page's sliders leave out."""
        if self._loaded.spec.finds_poses:
            return EmbeddingPoses(
                Network(self._loaded.spec), self._loaded.variables,
                part_score_threshold=0, person_score_threshold=FEWEST,
            )  # fmt: skip
        return MoveNetPoses(part_score_threshold=0, person_score_threshold=FEWEST)

    def scene(self, image: np.ndarray, *, flip: bool) -> Scene:
        """Returns the scene of a photo (H, W, 3), with the people whom the pose network finds."""
        scene = Scene(self.predictor(flip), image)
        scene.set_people(self.estimator()(scene.picture))
        return scene

    def warm(self) -> None:
        """Compiles what a photo with one person needs, so that the first visitor waits less."""
        nothing = np.zeros((64, 64, 3), np.uint8)
        self.estimator()(nothing)
        predictor = self.predictor(False)
        predictor.rois(predictor.encode(nothing), np.zeros((1, NUM_PARTS, 3), np.float32))

    def thresholds(self) -> tuple[float, float]:
        """Returns what suits the estimator: thresholds of parts and of people."""
        if self._loaded.spec.finds_poses:
            return embedding_poses.thresholds()
        return movenet_poses.thresholds(accurate=False)


def open_photo(networks: Networks, path: str | None, flip: bool) -> Scene | None:
    """Returns the scene of a photo, with the people whom the pose network finds; None without a photo.

    Raises:
        ImageError: it cannot be read.
    """
    if not path:
        return None
    return networks.scene(np.asarray(open_image(path).convert("RGB")), flip=flip)


def read_people(scene: Scene, photo: str, pose_file: str) -> None:
    """Replaces the people of a scene by those of a pose file.

    Args:
        scene: of the photo.
        photo: its file, whose name tells which poses of the file are meant.
        pose_file: of any format of docs/pose_files.md.

    Raises:
        UserError: the file cannot be read, or its poses cannot be those of this photo.
    """
    path = pathlib.Path(photo)
    found = pose_files.read_poses(pose_file, [path], 0.0)[path]
    found = found.on_photo(scene.image.shape[0], scene.image.shape[1], path.name)
    poses = found.poses.copy()
    poses[..., :2] /= scene.scale
    scores = np.ones(len(poses)) if found.scores is None else np.clip(found.scores, 0, 1)
    part_scores = (poses[..., 2] > 0).astype(np.float32)
    if found.part_scores is not None:
        part_scores = np.where(
            np.isnan(found.part_scores), part_scores, np.clip(found.part_scores, 0, 1)
        )
    scene.set_people(EstimatedPoses(poses, scores, part_scores))
