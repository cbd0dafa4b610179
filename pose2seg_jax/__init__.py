"""Pose2Seg in JAX: people in a photo, told apart by their poses and cut out as masks."""

import importlib
from typing import TYPE_CHECKING, Any

from pose2seg_jax.alignment import affine_align, geometry, sampling, skeleton, templates
from pose2seg_jax.alignment.affine_align import Alignment, align_poses
from pose2seg_jax.alignment.geometry import fit_similarity
from pose2seg_jax.alignment.sampling import align_to_roi, reverse_align
from pose2seg_jax.alignment.skeleton import skeleton_features
from pose2seg_jax.errors import UserError

if TYPE_CHECKING:
    from pose2seg_jax.models import NetworkSpec
    from pose2seg_jax.prediction.network import Network, predict_masks
    from pose2seg_jax.prediction.predictor import Pose2SegPredictor
    from pose2seg_jax.prediction.results import Result

__version__ = "0.2.0"

__all__ = [
    "Alignment",
    "Network",
    "NetworkSpec",
    "Pose2SegPredictor",
    "Result",
    "UserError",
    "affine_align",
    "align_poses",
    "align_to_roi",
    "fit_similarity",
    "geometry",
    "predict_masks",
    "reverse_align",
    "sampling",
    "skeleton",
    "skeleton_features",
    "templates",
]

# Names that are loaded on first use: the functions of `alignment` need no Flax.
_LATE = {
    "Network": "prediction.network",
    "NetworkSpec": "models",
    "Pose2SegPredictor": "prediction.predictor",
    "Result": "prediction.results",
    "predict_masks": "prediction.network",
}


def __getattr__(name: str) -> Any:
    """A name of _LATE."""
    if name in _LATE:
        return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
