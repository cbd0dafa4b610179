"""The networks, in flax.linen: `Pose2Seg`, its backbone and its segmentation branch."""

from pose2seg_jax.models.pose2seg import BACKBONES, Features, Pose2Seg

__all__ = ["BACKBONES", "Features", "Pose2Seg"]
