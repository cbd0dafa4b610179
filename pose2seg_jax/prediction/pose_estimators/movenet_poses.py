"""`MoveNetPoses`: poses by MoveNet MultiPose, the pose network of the package."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Real, UInt8

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.conventions import CONVENTIONS
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models.movenet import MoveNet
from pose2seg_jax.prediction.forks import check_not_forked
from pose2seg_jax.prediction.inputs import image_array
from pose2seg_jax.prediction.pose_estimators import decoding
from pose2seg_jax.prediction.pose_estimators.decoding import PoseCandidates
from pose2seg_jax.prediction.pose_estimators.estimated_poses import (
    EstimatedPoses,
    sure_poses,
    threshold,
)
from pose2seg_jax.weights import movenet_files

SIDES = (512,)  # of the canvases, in pixels
ACCURATE_SIDES = (256, 384, 640)
# MoveNet's scores of parts are low: with 0.3 in place of 0.1, mask AP falls from 0.376 to 0.358 (docs/experiments.md).
PART_SCORE_THRESHOLD = 0.1
# The best F1 on the images of our tune part (docs/prediction.md), for one size and for three.
PERSON_SCORE_THRESHOLD = 0.35
ACCURATE_PERSON_SCORE_THRESHOLD = 0.45
CENTERS = CONVENTIONS["pixel_centers"]


class MoveNetPoses:
    """A pose estimator: finds the people of an image and their poses, with MoveNet MultiPose Lightning (Google).

        estimate = MoveNetPoses()
        poses, scores, part_scores = estimate(image)

    It is compiled once, whatever the sizes of the images. Several threads may share one.
    """

    def __init__(
        self,
        path: str | os.PathLike | None = None,
        *,
        accurate: bool = False,
        flip: bool = False,
        part_score_threshold: float | None = None,
        person_score_threshold: float | None = None,
        device: jax.Device | None = None,
    ):
        """Reads the weights.

        Args:
            path: of a file from main.py --mode=convert_weights; None for that of the package.
            accurate: whether the image is looked at in three sizes: better, for two and a half times the time.
            flip: whether the image is looked at mirrored too: a little better, for twice the time.
            part_score_threshold: parts with a lower score are missing; None for 0.1.
            person_score_threshold: persons with a lower score are left out; None for 0.35, or 0.45 where accurate.
            device: to run on; by default JAX's own.

        Raises:
            WeightsError: the file is missing or of another network.
            InputError: a threshold is not between 0 and 1.
        """
        check_not_forked()
        part, person = thresholds(accurate=accurate)
        self._part_threshold = threshold(part_score_threshold, part)
        self._person_threshold = threshold(person_score_threshold, person)
        self._sides = ACCURATE_SIDES if accurate else SIDES
        self._flip, self._device = flip, device
        self._variables = jax.device_put(movenet_files.load(path), device)

    def __getstate__(self) -> dict[str, Any]:
        """Pickles the weights and settings; it runs on JAX's own device where it is unpickled."""
        return {**self.__dict__, "_device": None}

    def __call__(self, image: Any) -> EstimatedPoses:
        """Returns the persons of an image, the surest first.

        A person's score is the root of MoveNet's, sqrt(centre) times the mean of the part scores: its product with the mask
        score orders masks best (docs/experiments.md).

        Args:
            image: anything that `Pose2SegPredictor` takes.

        Raises:
            InputError: it is no image.
            ImageError: a file that cannot be read.
        """
        check_not_forked()
        image = image_array(image)
        canvases = [CENTERS.letterbox_image(image, side)[None] for side in self._sides]
        size = np.asarray(image.shape[:2], np.float32)
        given = jax.device_put((canvases, size), self._device)
        found = _find_people(self._variables, *given, flip=self._flip)
        points, part_scores, scores, _ = map(np.asarray, jax.device_get(found))
        return sure_poses(
            points, part_scores, np.sqrt(scores), self._part_threshold, self._person_threshold
        )


def find_people(
    variables: Any,
    canvases: Sequence[UInt8[Array, "1 _ _ 3"]],
    size: Real[Array, " 2"],
    *,
    flip: bool = False,
) -> PoseCandidates:
    """Returns the people of one image; pure, for use under `jit`.

    Args:
        variables: of `MoveNet`.
        canvases: the image letterboxed to squares of one side or several, multiples of 32.
        size: (height, width) of the image.
        flip: whether the mirrored canvases are looked at too.

    Returns:
        In the coordinates of the image, sorted by score; score 0 where there is nobody.
    """
    network, found = MoveNet(), []
    for canvas in canvases:
        maps: Any = network.apply(variables, canvas)
        if flip:
            other: Any = network.apply(variables, canvas[:, :, ::-1])
            maps = decoding.mean_with_mirrored(maps, other)
        candidates = decoding.decode(jax.tree.map(lambda values: values[0], maps), is_mean=flip)
        to_canvas = CENTERS.letterbox(jnp.asarray(size), canvas.shape[1])
        found.append(decoding.moved(candidates, geometry.invert(to_canvas)))
    merged = len(found) > 1
    limit = decoding.SAME_PERSON_OKS_MERGED if merged else decoding.SAME_PERSON_OKS
    return decoding.without_duplicates(decoding.merged(found), limit)


_find_people = jax.jit(find_people, static_argnames="flip")


def thresholds(*, accurate: bool) -> tuple[float, float]:
    """Returns the usual thresholds of parts and of persons."""
    person = ACCURATE_PERSON_SCORE_THRESHOLD if accurate else PERSON_SCORE_THRESHOLD
    return PART_SCORE_THRESHOLD, person
