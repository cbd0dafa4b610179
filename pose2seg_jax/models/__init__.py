"""The networks, in flax.linen: backbones, segmentation branches, and `Pose2Seg`, which joins them.

A network is described by a `NetworkSpec`; nothing here reads a config or a file.
"""

from pose2seg_jax.models.pose2seg import BACKBONES, Features, Pose2Seg

__all__ = ["BACKBONES", "Features", "Pose2Seg"]
