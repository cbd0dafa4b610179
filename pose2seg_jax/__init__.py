"""Pose2Seg in JAX: people in a photo, told apart by their poses and cut out as masks."""

from typing import TYPE_CHECKING, Any

from pose2seg_jax.alignment import affine_align, geometry, skeleton, templates
from pose2seg_jax.alignment.affine_align import Alignment, align_poses
from pose2seg_jax.alignment.geometry import fit_similarity
from pose2seg_jax.alignment.skeleton import skeleton_features
from pose2seg_jax.errors import UserError

if TYPE_CHECKING:
    from pose2seg_jax.prediction.predictor import Network, Pose2SegPredictor, predict_masks
    from pose2seg_jax.prediction.results import Result

__all__ = [
    "Alignment",
    "Network",
    "Pose2SegPredictor",
    "Result",
    "UserError",
    "affine_align",
    "align_poses",
    "fit_similarity",
    "geometry",
    "predict_masks",
    "skeleton",
    "skeleton_features",
    "templates",
]


def __getattr__(name: str) -> Any:
    """The predictor's names, on first use: the geometry alone needs no Flax."""
    if name in ("Network", "Pose2SegPredictor", "Result", "predict_masks"):
        from pose2seg_jax.prediction import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
