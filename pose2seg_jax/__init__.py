"""Pose2Seg in JAX: people in a photo, told apart by their poses and cut out as masks."""

from pose2seg_jax import affine_align, geometry, skeleton, templates
from pose2seg_jax.affine_align import Alignment, align_poses
from pose2seg_jax.errors import UserError
from pose2seg_jax.geometry import fit_similarity
from pose2seg_jax.skeleton import skeleton_features

__all__ = [
    "Alignment",
    "UserError",
    "affine_align",
    "align_poses",
    "fit_similarity",
    "geometry",
    "skeleton",
    "skeleton_features",
    "templates",
]
