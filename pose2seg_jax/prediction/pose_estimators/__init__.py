"""Poses for photos that come without.

An estimator is a function from an image (H, W, 3), uint8 RGB, to `EstimatedPoses`. `MoveNetPoses` is the one of the package: a network
of ours, in JAX. `rtmo` asks another package.
"""

from pose2seg_jax.prediction.pose_estimators.estimated_poses import EstimatedPoses, PoseEstimator
from pose2seg_jax.prediction.pose_estimators.movenet_poses import MoveNetPoses
from pose2seg_jax.prediction.pose_estimators.rtmlib_poses import rtmo

__all__ = ["EstimatedPoses", "MoveNetPoses", "PoseEstimator", "rtmo"]
