"""The networks, in flax.linen: backbones, segmentation branches, and `Pose2Seg`, which joins them.

A network is what its `NetworkSpec` says. Nothing here knows a file format, trains, or opens data.
"""

from pose2seg_jax.models.network_spec import BACKBONES, BRANCHES, NetworkSpec
from pose2seg_jax.models.pose2seg import Features, Pose2Seg

__all__ = ["BACKBONES", "BRANCHES", "Features", "NetworkSpec", "Pose2Seg"]
