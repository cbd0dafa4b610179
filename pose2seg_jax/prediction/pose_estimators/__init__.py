"""Poses for photos that come without.

An estimator is a function from an image (H, W, 3), uint8 RGB, to `EstimatedPoses`. `MoveNetPoses` is the one of the package. `EmbeddingPoses` are
the pose heads of a network that was trained here. `rtmo` asks another package.
"""

from pose2seg_jax.prediction.pose_estimators.embedding_poses import EmbeddingPoses
from pose2seg_jax.prediction.pose_estimators.estimated_poses import EstimatedPoses, PoseEstimator
from pose2seg_jax.prediction.pose_estimators.movenet_poses import MoveNetPoses
from pose2seg_jax.prediction.pose_estimators.rtmlib_poses import rtmo

__all__ = ["EmbeddingPoses", "EstimatedPoses", "MoveNetPoses", "PoseEstimator", "rtmo"]
