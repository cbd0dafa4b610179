"""The pure functions of prediction, from letterboxed images and poses to masks in the ROIs and in the image.

`predict_masks` is for one's own `jit` and `vmap`. `predict_rois` is what it shares with the predictor and the
evaluation.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Real, UInt8

from pose2seg_jax.alignment import geometry, policies, sampling
from pose2seg_jax.alignment.affine_align import Alignment
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import Features, NetworkSpec, Pose2Seg
from pose2seg_jax.models.pose2seg import DTYPES
from pose2seg_jax.people.parts import FLIPPED_PARTS
from pose2seg_jax.prediction.inputs import check_image, check_poses


@dataclasses.dataclass(frozen=True)
class Network:
    """What prediction needs beside the variables; constant under `jit`.

    Attributes:
        spec: what the network is.
        dtype: of the computation, "float32" or "bfloat16".
        flip: whether the image is predicted mirrored too, and the mean taken: twice the work.
        exclusive: whether a pixel belongs to one person at most, the one whose probability is highest, in masks of the predictors.
    """

    spec: NetworkSpec
    dtype: str = "float32"
    flip: bool = False
    exclusive: bool = True

    def __post_init__(self):
        """Checks the dtype.

        Raises:
            UserError: it is another one.
        """
        if self.dtype not in DTYPES:
            raise UserError(f"dtype is '{self.dtype}'; it must be one of {', '.join(DTYPES)}.")

    @functools.cached_property
    def model(self) -> Pose2Seg:
        """The Flax module."""
        return Pose2Seg(self.spec, dtype=self.dtype)

    def encode(self, variables: Any, images: UInt8[Array, "B S S 3"]) -> Features:
        """Returns features of B letterboxed images, and behind them of the same mirrored where `flip` asks."""
        if self.flip:
            images = jnp.concatenate([images, images[:, :, ::-1]])
        features: Any = self.model.apply(variables, images, method="encode")
        return features

    def letterbox_image(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
        """Fits an image into the canvas, on the host."""
        return self.spec.convention.letterbox_image(image, self.spec.image_size)


class RoiPrediction(NamedTuple):
    """What the network says of N persons, in their ROIs.

    Attributes:
        probabilities: (N, R, R) mask probabilities; R is two more than the spec's roi_size where its
            sampling is "pixel_indices".
        scores: (N,) the IoU that the network expects each mask to have, see `mask_score`.
        alignment: of the persons, from image coordinates to their ROIs.
    """

    probabilities: Float[Array, "N R R"]
    scores: Float[Array, " N"]
    alignment: Alignment


def predict_rois(
    network: Network,
    variables: Any,
    features: Features,
    poses: Real[Array, "N P 3"],
    sizes: Real[Array, "N 2"],
    image_index: Int[Array, " N"],
    valid: Bool[Array, " N"],
    boxes: Real[Array, "N 4"] | None = None,
) -> RoiPrediction:
    """Masks of persons in their ROIs; pure, for use under `jit`.

    Args:
        network: the network.
        variables: its parameters and batch statistics.
        features: `network.encode` of letterboxed images.
        poses: (x, y, v) in the coordinates of the original images. A part outside of its image
            counts as missing.
        sizes: (height, width) of the original image of each person.
        image_index: the row of the features of each person.
        valid: False for padding.
        boxes: (x, y, width, height) in the original images; only for the policy "box".
    """
    spec, convention = network.spec, network.spec.convention
    poses, sizes = geometry.as_floats(poses, "poses"), geometry.as_floats(sizes, "sizes")
    inside = jnp.all((poses[..., :2] >= 0) & (poses[..., :2] <= sizes[:, None, ::-1]), axis=-1)
    poses = jnp.where(inside[..., None], poses, 0.0)
    alignment = policies.align_persons(
        spec.policy, poses, boxes, spec.template_array, sizes, spec.roi_size,
        reflect=spec.reflect, convention=convention,
    )  # fmt: skip
    to_canvas = convention.letterbox(sizes, spec.image_size)
    from_canvas = geometry.compose(alignment.matrix, geometry.invert(to_canvas))
    placed = geometry.apply_to_poses(to_canvas, poses)

    def segment(poses, matrices, image_index):
        logits: Any = network.model.apply(
            variables, features, poses, matrices, image_index, valid, method="segment"
        )
        return jax.nn.sigmoid(logits)

    probabilities = segment(placed, from_canvas, image_index)
    if network.flip:
        canvas, roi = geometry.mirror(spec.image_size), geometry.mirror(spec.roi_size)
        mirrored = geometry.apply_to_poses(canvas, placed)[:, np.asarray(FLIPPED_PARTS)]
        matrices = geometry.compose(roi, geometry.compose(from_canvas, canvas))
        other = segment(mirrored, matrices, image_index + features.maps.shape[0] // 2)
        probabilities = (probabilities + other[:, :, ::-1]) / 2
    # Of a pose without any part in the image, nothing is known: its mask is empty.
    known = valid & jnp.any(poses[..., 2] > 0, axis=-1)
    probabilities = jnp.where(known[:, None, None], probabilities, 0.0)
    scores = mask_score(probabilities)
    probabilities, matrix = convention.pad_roi(probabilities, alignment.matrix)
    return RoiPrediction(probabilities, scores, alignment._replace(matrix=matrix))


def mask_score(probabilities: Float[Array, "N R R"]) -> Float[Array, " N"]:
    """Returns about the IoU that the network expects of each mask; 0 for an empty mask.

    If the probabilities are right, it is the expected size of what mask and person share over that of
    their union.
    """
    inside = probabilities > 0.5
    shared = jnp.sum(jnp.where(inside, probabilities, 0.0), axis=(1, 2))
    union = jnp.sum(jnp.where(inside, 1.0, probabilities), axis=(1, 2))
    return shared / jnp.maximum(union, 1.0)


def predict_masks(
    network: Network,
    variables: Any,
    image: Array,
    poses: Real[Array, "N P 3"],
    valid: Bool[Array, " N"],
) -> tuple[Float[jax.Array, "N H W"], RoiPrediction]:
    """Takes one image to the masks of its persons, all on the device; pure, for `jit` and `vmap`.

        masks = jax.jit(jax.vmap(functools.partial(predict_masks, network), in_axes=(None, 0, 0, 0)))
        probabilities, rois = masks(variables, images, poses, valid)

    Compiled for each image size and number of persons; an array of N H W is made.

    Args:
        network: `predictor.network`.
        variables: `predictor.variables`.
        image: RGB.
        poses: (x, y, v) in the coordinates of the image; v is a visibility, 0, 1 or 2.
        valid: False for padding.

    Returns:
        Mask probabilities in the image, 0 outside of the ROI; the mask is where they exceed 0.5. And
        the same in the ROIs. A person whose v is something else, such as a score, gets NaN: JAX cannot
        raise under `jit`.

    Raises:
        InputError: the image is not (H, W, 3) uint8, or poses outside of `jit` are no poses.
    """
    check_image(image)
    poses = _visible_or_nan(poses)
    spec = network.spec
    height, width = image.shape[:2]
    canvas = spec.convention.letterbox_on_device(image, spec.image_size)
    features = network.encode(variables, canvas[None])
    count = poses.shape[0]
    sizes = jnp.broadcast_to(jnp.asarray([[height, width]], jnp.float32), (count, 2))
    index = jnp.zeros(count, jnp.int32)
    rois = predict_rois(network, variables, features, poses, sizes, index, valid)
    known = jnp.all(jnp.isfinite(poses), axis=(1, 2))
    rois = rois._replace(
        probabilities=jnp.where(known[:, None, None], rois.probabilities, jnp.nan),
        scores=jnp.where(known, rois.scores, jnp.nan),
    )
    masks = sampling.reverse_align(rois.probabilities, rois.alignment.matrix, height, width)
    return masks, rois


def _visible_or_nan(poses: Array) -> Float[Array, "N P 3"]:
    """Poses, checked; those that are seen under `jit` only and hold no visibilities become NaN."""
    if not isinstance(poses, jax.core.Tracer):
        check_poses(poses)
    poses = geometry.as_floats(poses, "poses")
    third = poses[..., 2]
    poses = jnp.where((third == 0)[..., None], 0, poses)  # whatever x and y of a missing part are
    fine = jnp.all((third == 0) | (third == 1) | (third == 2), axis=-1)
    return jnp.where(fine[:, None, None], poses, jnp.nan)
