"""`rtmo`: poses by RTMO, through the package rtmlib."""

import numpy as np

from pose2seg_jax.errors import UserError
from pose2seg_jax.prediction.pose_estimators.estimated_poses import EstimatedPoses, PoseEstimator


def rtmo(
    mode: str = "balanced",
    *,
    device: str = "cpu",
    score_threshold: float = 0.3,
    nms_iou: float = 0.8,
) -> PoseEstimator:
    """RTMO (one stage, no detector) through rtmlib, `pip install rtmlib`.

    rtmlib fetches the ONNX weights on first use from download.openmmlab.com, or from their mirror
    at huggingface.co/Tau-J/RTMPose, into ~/.cache/rtmlib.

    Args:
        mode: "lightweight", "balanced" or "performance".
        device: of ONNX Runtime: "cpu", "cuda" or "mps".
        score_threshold: parts with a lower score are missing.
        nms_iou: of two found people whose boxes overlap more, the weaker is taken for a duplicate.
            rtmlib's own value, .45, drops the second of the two overlapping people that this
            method is for.

    Raises:
        UserError: rtmlib is not installed, or its weights cannot be had.
    """
    try:
        import rtmlib
    except ImportError as error:
        raise UserError(
            f"the pose estimator needs rtmlib ({error}): pip install 'rtmlib>=0.0.16,<0.1'. Without"
            " it, give poses from a file or as an array."
        ) from None
    try:
        body = rtmlib.Body(pose="rtmo", mode=mode, backend="onnxruntime", device=device)
    except Exception as error:  # whatever the download and ONNX Runtime raise
        raise UserError(
            f"RTMO ({mode}, {device}) could not be fetched or started: {error!r}. Give poses from a"
            " file or as an array instead."
        ) from None
    body.pose_model.nms_thr = nms_iou

    def estimate(image: np.ndarray) -> EstimatedPoses:
        points, scores = body(image[..., ::-1])  # it takes BGR, as OpenCV reads
        # Its coordinates are pixel indices, ours have the first pixel's centre at .5.
        seen = scores >= score_threshold
        visibility = np.where(seen, 2, 0)
        poses = np.concatenate([points + 0.5, visibility[..., None]], axis=-1).astype(np.float32)
        # A person's score is the mean of the parts that are there; rtmlib keeps none of its own.
        known = np.sum(scores * seen, axis=1) / np.maximum(np.sum(seen, axis=1), 1)
        found = np.any(seen, axis=1)  # nobody is one pose of zeros there
        return EstimatedPoses(poses[found], np.clip(known[found], 0, 1), scores[found])

    return estimate
