"""Prediction: an image and its poses to masks. No TensorFlow on this path.

`Pose2SegPredictor` is for photos of any size. `predict_masks` is the pure function for one's own
`jit` and `vmap`, and `predict_rois` is what both of them, and the evaluation, share.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int, UInt8

from pose2seg_jax.alignment import affine_align, geometry
from pose2seg_jax.alignment.affine_align import Alignment
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import Features, Pose2Seg
from pose2seg_jax.people import parts
from pose2seg_jax.people.masks import encode_mask
from pose2seg_jax.prediction.results import Result
from pose2seg_jax.training import train_state
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights.files import Weights

# Persons are asked for in chunks of these sizes, so that few shapes are compiled.
_MAX_CHUNK = 32


class InputError(UserError, ValueError):
    """An image or poses that are not what the predictor takes; the message says what it takes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """What prediction needs beside the variables; constant under `jit`.

    Attributes:
        model: the Flax module.
        templates: (K, 17, 3) pose templates that it was trained with, see `templates.load`.
        image_size: side of the letterboxed images.
        reflect: whether mirrored alignments are tried.
        method: "pose" aligns by pose; "score" so too, as the CVPR 2019 version does; "box" by a given
            box, for comparison.
        flip: whether the image is predicted mirrored too, and the mean taken: twice the work.
    """

    model: Pose2Seg
    templates: Float[Array, "K P 3"]
    image_size: int
    reflect: bool = True
    method: str = "pose"
    flip: bool = False

    @classmethod
    def from_config(
        cls, config: ml_collections.ConfigDict, pose_templates: Array, flip: bool = False
    ) -> "Network":
        """The network of an experiment."""
        model = train_state.create_model(config)
        options = config.align
        side = config.dataset.image_size
        return cls(model, pose_templates, side, options.reflect, options.method, flip)

    def encode(self, variables: Any, images: UInt8[Array, "B S S 3"]) -> Features:
        """Features of B letterboxed images, and behind them of the same mirrored where `flip` asks."""
        if self.flip:
            images = jnp.concatenate([images, images[:, :, ::-1]])
        features: Any = self.model.apply(variables, images, method="encode")
        return features

    def letterbox(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "S S 3"]:
        """What the network sees of an image; on the host."""
        return letterbox_image(image, self.image_size, self.model.by_indices)

    def to_canvas(self, sizes: Float[Array, "*batch 2"]) -> Float[jax.Array, "*batch 2 3"]:
        """Matrices that letterbox images of (height, width) into what the network sees."""
        matrix = geometry.letterbox(sizes, self.image_size)
        return geometry.at_indices(matrix) if self.model.by_indices else matrix


class RoiPrediction(NamedTuple):
    """What the network says of N persons, in their ROIs.

    Attributes:
        probabilities: (N, R, R) mask probabilities; R is two more than the model's roi_size where its
            sampling is "indices".
        scores: (N,) the model's own mask score, the IoU that it expects, see `mask_score`.
        alignment: of the persons, from image coordinates to their ROIs.
    """

    probabilities: Float[Array, "N R R"]
    scores: Float[Array, " N"]
    alignment: Alignment


def predict_rois(
    network: Network,
    variables: Any,
    features: Features,
    poses: Float[Array, "N P 3"],
    sizes: Float[Array, "N 2"],
    image_index: Int[Array, " N"],
    valid: Bool[Array, " N"],
    boxes: Float[Array, "N 4"] | None = None,
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
        boxes: (x, y, width, height) in the original images; only for method "box".
    """
    inside = jnp.all((poses[..., :2] >= 0) & (poses[..., :2] <= sizes[:, None, ::-1]), axis=-1)
    poses = jnp.where(inside[..., None], poses, 0)
    alignment = affine_align.align_persons(
        network.method,
        poses,
        boxes,
        network.templates,
        sizes,
        network.model.roi_size,
        reflect=network.reflect,
        indices=network.model.by_indices,
    )
    to_canvas = network.to_canvas(sizes)
    from_canvas = geometry.compose(alignment.matrix, geometry.invert(to_canvas))
    placed = geometry.apply_to_poses(to_canvas, poses)

    def segment(poses, matrices, image_index):
        logits: Any = network.model.apply(
            variables, features, poses, matrices, image_index, valid, method="segment"
        )
        return jax.nn.sigmoid(logits)

    probabilities = segment(placed, from_canvas, image_index)
    if network.flip:
        canvas, roi = (_mirror(side) for side in (network.image_size, network.model.roi_size))
        mirrored = geometry.apply_to_poses(canvas, placed)[:, np.asarray(parts.FLIPPED_PARTS)]
        matrices = geometry.compose(roi, geometry.compose(from_canvas, canvas))
        other = segment(mirrored, matrices, image_index + features.maps.shape[0] // 2)
        probabilities = (probabilities + other[:, :, ::-1]) / 2
    # Of a pose without any part in the image, nothing is known: its mask is empty.
    known = valid & jnp.any(poses[..., 2] > 0, axis=-1)
    probabilities = probabilities * known[:, None, None]
    scores = mask_score(probabilities)
    if network.model.by_indices:
        # OpenCV fades out beyond the outermost centres of the ROI, where we repeat their values.
        probabilities = jnp.pad(probabilities, [(0, 0), (1, 1), (1, 1)])
        alignment = alignment._replace(matrix=jnp.asarray(alignment.matrix).at[..., 2].add(1))
    return RoiPrediction(probabilities, scores, alignment)


def mask_score(probabilities: Float[Array, "N R R"]) -> Float[Array, " N"]:
    """The model's own score of a mask: about the IoU that it expects; 0 for an empty mask.

    If the probabilities are right, it is the expected size of what mask and person share over that of
    their union.
    """
    inside = probabilities > 0.5
    shared = jnp.sum(jnp.where(inside, probabilities, 0), axis=(1, 2))
    union = jnp.sum(jnp.where(inside, 1, probabilities), axis=(1, 2))
    return shared / jnp.maximum(union, 1)


def _mirror(side: int) -> np.ndarray:
    return np.asarray([[-1, 0, side], [0, 1, 0]], np.float32)


def predict_masks(
    network: Network,
    variables: Any,
    image: UInt8[Array, "H W 3"],
    poses: Float[Array, "N P 3"],
    valid: Bool[Array, " N"],
) -> tuple[Float[jax.Array, "N H W"], RoiPrediction]:
    """One image to the masks of its persons, all on the device; pure, for `jit` and `vmap`.

        masks = jax.jit(jax.vmap(functools.partial(predict_masks, network), in_axes=(None, 0, 0, 0)))
        probabilities, rois = masks(variables, images, poses, valid)

    Compiled for each image size and number of persons; an array of N H W is made.

    Args:
        network: `predictor.network`.
        variables: `predictor.variables`.
        image: RGB.
        poses: (x, y, v) in the coordinates of the image.
        valid: False for padding.

    Returns:
        Mask probabilities in the image, 0 outside of the ROI; the mask is where they exceed .5. And
        the same in the ROIs.
    """
    height, width = image.shape[:2]
    size = jnp.asarray([height, width], jnp.float32)
    side = network.image_size
    matrix = network.to_canvas(size)
    pixels = image.astype(jnp.float32)
    if network.model.by_indices:  # as in letterbox_image
        pixels = jnp.pad(pixels, [(1, 1), (1, 1), (0, 0)])
        matrix = matrix.at[:, 2].add(-matrix[0, 0])
    canvas = jax.image.scale_and_translate(
        pixels,
        (side, side, 3),
        (0, 1),
        matrix[(1, 0), (1, 0)],
        matrix[(1, 0), (2, 2)],
        "linear",
        antialias=not network.model.by_indices,
    )
    canvas = jnp.clip(jnp.round(canvas), 0, 255).astype(jnp.uint8)
    count = poses.shape[0]
    features = network.encode(variables, canvas[None])
    sizes = jnp.broadcast_to(size, (count, 2))
    index = jnp.zeros(count, jnp.int32)
    rois = predict_rois(network, variables, features, poses, sizes, index, valid)
    masks = affine_align.reverse_align(rois.probabilities, rois.alignment.matrix, height, width)
    return masks, rois


def to_image(rois: RoiPrediction, size: tuple[int, int]) -> Result:
    """Takes predictions to their image, on the host.

    Args:
        rois: of the persons of one image.
        size: (height, width) of the image.
    """
    rles = tuple(
        encode_mask(np.asarray(probability), np.asarray(matrix), *size)
        for probability, matrix in zip(rois.probabilities, rois.alignment.matrix, strict=True)
    )
    scores, template = np.asarray(rois.scores, np.float64), np.asarray(rois.alignment.template)
    return Result(size, rles, scores, template)


class EncodedImage(NamedTuple):
    """An image that went through the backbone; for `Pose2SegPredictor.__call__`.

    Attributes:
        features: on the device.
        size: (height, width) of the image.
    """

    features: Features
    size: tuple[int, int]


class Pose2SegPredictor:
    """Masks of people in photos of any size, from their poses.

        predictor = Pose2SegPredictor.load()      # the model of the package, or a weights file
        result = predictor(image, poses)          # masks, boxes, scores, to_coco()

    The backbone runs once an image, the rest in chunks of 1, 2, 4, 8, 16 or 32 persons: seven
    compilations at most, whatever the photos are, each at the first image that needs it (the cost:
    docs/prediction.md). Masks go to the image on the host. Runs on JAX's default device.
    """

    def __init__(
        self,
        network: Network,
        variables: Any,
        *,
        pose_estimator: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        """Compiles lazily: nothing runs here.

        Args:
            network: the network.
            variables: parameters and batch statistics.
            pose_estimator: (H, W, 3) uint8 RGB -> (P, 17, 3) poses as `__call__` takes them; asked
                where a call gives no poses. `pose_estimators` has one.
        """
        if network.method == "box":
            raise weights.WeightsError(
                "the network was trained with align.method=box, a comparison that needs true boxes; it"
                " does not predict from poses."
            )
        self.network = network
        self.variables = jax.device_put(variables)
        self._pose_estimator = pose_estimator

        # The variables are arguments: as constants they would be compiled in, seven times.
        def segment(variables, features, poses, sizes, image_index, valid):
            return predict_rois(network, variables, features, poses, sizes, image_index, valid)

        self._encode = jax.jit(network.encode)
        self._segment = jax.jit(segment)

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path | None = None,
        *,
        flip: bool = False,
        pose_estimator: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "Pose2SegPredictor":
        """A predictor from a weights file (main.py --mode=export_weights).

        Args:
            path: of the file; None for the model of the package (docs/model_card.md).
            flip: whether images are predicted mirrored too: a little better, for twice the time.
            pose_estimator: see `__init__`.

        Raises:
            WeightsError: missing, truncated, of another program, model or convention.
        """
        return cls.from_weights(weights.load(path), flip=flip, pose_estimator=pose_estimator)

    @classmethod
    def from_weights(
        cls,
        loaded: Weights,
        *,
        flip: bool = False,
        pose_estimator: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> "Pose2SegPredictor":
        """A predictor from loaded weights; see `load`."""
        network = Network.from_config(loaded.config, loaded.templates, flip)
        return cls(network, loaded.variables, pose_estimator=pose_estimator)

    def encode(self, image: Array) -> EncodedImage:
        """Runs the backbone on a (H, W, 3) uint8 RGB image, to ask for many poses afterwards.

        Raises:
            InputError: not (H, W, 3) uint8.
        """
        image = _checked_image(image)
        features: Any = self._encode(self.variables, self.network.letterbox(image)[None])
        return EncodedImage(features, (image.shape[0], image.shape[1]))

    def __call__(self, image: Array | EncodedImage, poses: Array | None = None) -> Result:
        """The masks of an image's persons.

        Args:
            image: (H, W, 3) uint8 RGB, or what `encode` returned.
            poses: (P, 17, 3), COCO's parts: x and y in continuous image coordinates (the centre of
                the first pixel is .5), and the visibility: 0 missing, 1 hidden, 2 visible. P may be
                0. A part outside of the image counts as missing; a pose without a part in the image
                has an empty mask and score 0. None asks the pose estimator.

        Returns:
            The persons in the order of the poses.

        Raises:
            InputError: an array of another kind, or no poses and no estimator.
        """
        if poses is None:
            poses = self._estimate(image)
        poses = _checked_poses(poses)
        if not len(poses):  # nothing runs for nobody
            height, width = (
                image.size if isinstance(image, EncodedImage) else _checked_image(image).shape[:2]
            )
            return Result.of_nobody((height, width))
        if not isinstance(image, EncodedImage):
            image = self.encode(image)
        return to_image(self.rois(image, poses), image.size)

    def rois(self, encoded: EncodedImage, poses: Array) -> RoiPrediction:
        """What `__call__` takes to the image: the probabilities in the ROIs, and the alignment.

        Args:
            encoded: what `encode` returned.
            poses: as for `__call__`.

        Returns:
            NumPy arrays.
        """
        poses = _checked_poses(poses)
        chunks = [
            self._segment_chunk(encoded, poses[start : start + _MAX_CHUNK])
            for start in range(0, max(len(poses), 1), _MAX_CHUNK)
        ]
        return jax.tree.map(lambda *parts: np.concatenate(parts), *chunks)

    def _segment_chunk(self, encoded: EncodedImage, poses: np.ndarray) -> RoiPrediction:
        count = len(poses)
        slots = 1 << max(count - 1, 0).bit_length()
        padded = np.zeros((slots, *poses.shape[1:]), np.float32)
        padded[:count] = poses
        sizes = np.broadcast_to(np.asarray(encoded.size, np.float32), (slots, 2))
        valid = np.arange(slots) < count
        index = np.zeros(slots, np.int32)
        predicted = self._segment(self.variables, encoded.features, padded, sizes, index, valid)
        return jax.tree.map(lambda values: np.asarray(values)[:count], predicted)

    def _estimate(self, image: Array | EncodedImage) -> np.ndarray:
        if self._pose_estimator is None or isinstance(image, EncodedImage):
            raise InputError(
                "no poses: give (P, 17, 3), or make the predictor with pose_estimator=... and call it"
                " with an image."
            )
        return self._pose_estimator(_checked_image(image))


def letterbox_image(
    image: UInt8[np.ndarray, "H W 3"], side: int, indices: bool = False
) -> UInt8[np.ndarray, "S S 3"]:
    """Scales an image into the square canvas, as the evaluation's stream does.

    On the host: on a device every size of image would be compiled anew.

    Args:
        image: RGB.
        side: of the canvas.
        indices: as networks with model.sampling="indices" want it: by pixel indices, and without
            antialiasing, like OpenCV's warpAffine.
    """
    scale = side / max(image.shape[:2])  # as geometry.letterbox
    offsets = [(side - scale * size) / 2 for size in image.shape[:2]]
    if indices:
        image = np.pad(image, [(1, 1), (1, 1), (0, 0)])  # OpenCV's edges blend with black
        # As geometry.at_indices, and for the rim.
        offsets = [offset + 0.5 - 0.5 * scale - scale for offset in offsets]
    down, across = (
        _resize_matrix(size, side, scale, offset, not indices)
        for size, offset in zip(image.shape[:2], offsets, strict=True)
    )
    # One channel at a time: a large photo is large enough once as float32.
    channels = [(across @ (down @ image[..., c].astype(np.float32)).T).T for c in range(3)]
    return np.clip(np.round(np.stack(channels, -1)), 0, 255).astype(np.uint8)


def _resize_matrix(
    size: int, side: int, scale: float, offset: float, antialias: bool
) -> scipy.sparse.csr_array:
    """(side, size): weights of a linear resampling along one axis."""
    centers = (np.arange(side) + 0.5 - offset) / scale - 0.5
    reach = max(1 / scale, 1) if antialias else 1.0
    taps = np.floor(centers - reach)[:, None] + np.arange(int(np.ceil(2 * reach)) + 2)
    weights = np.maximum(1 - np.abs(centers[:, None] - taps) / reach, 0)
    weights *= (taps >= 0) & (taps < size)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-6)
    weights *= ((centers >= -0.5) & (centers <= size - 0.5))[:, None]
    rows = np.broadcast_to(np.arange(side)[:, None], taps.shape)
    columns = np.clip(taps, 0, size - 1).astype(int)
    shape = (side, size)
    entries = (weights.ravel().astype(np.float32), (rows.ravel(), columns.ravel()))
    return scipy.sparse.csr_array(entries, shape=shape)


def _checked_image(image: Any) -> np.ndarray:
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise InputError(
            f"image is {array.dtype} of shape {array.shape}; expected uint8 of shape (H, W, 3), RGB:"
            " np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(FILE)).convert('RGB'))."
        )
    return array


def _checked_poses(poses: Any) -> np.ndarray:
    try:
        array = np.asarray(poses)
    except ValueError as error:
        raise InputError(f"poses are no array: {error}") from None
    count = len(parts.PART_NAMES)
    if array.dtype.kind not in "iuf" or array.ndim != 3 or array.shape[1:] != (count, 3):
        raise InputError(
            f"poses are {array.dtype} of shape {array.shape}; expected numbers of shape"
            f" (P, {count}, 3): x, y and visibility of COCO's parts."
        )
    bad = np.flatnonzero(~np.all(np.abs(array) < 1e6, axis=(1, 2)))  # also nan
    if bad.size:
        raise InputError(f"poses[{bad[0]}] holds values that are no coordinates.")
    bad = np.flatnonzero(~np.all(np.isin(array[..., 2], (0, 1, 2)), axis=1))
    if bad.size:
        raise InputError(
            f"poses[{bad[0]}]: the third value of a part is its visibility, 0 (missing), 1 (hidden)"
            f" or 2 (visible), but there is {array[bad[0], :, 2].max():g}. For scores:"
            " pose2seg_jax.people.coco.visibilities_from_scores(poses, threshold)."
        )
    return array.astype(np.float32)
