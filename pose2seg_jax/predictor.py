"""Prediction: images and poses to masks. No TensorFlow on this path.

`predict_rois` is the pure function underneath: encode images once, then ask for any number of
persons. `Network` runs it on all local devices in chunks of a fixed size.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int, UInt8

from pose2seg_jax import affine_align, geometry, losses, parallel, train_state
from pose2seg_jax.affine_align import Alignment
from pose2seg_jax.geometry import Array
from pose2seg_jax.models import Features, Pose2Seg
from pose2seg_jax.results import encode_mask


class RoiPrediction(NamedTuple):
    """What the network says of N persons, in their ROIs.

    Attributes:
        probabilities: (N, R, R) mask probabilities.
        scores: (N,) the model's own mask score, the mean probability inside the mask.
        alignment: of the persons, from image coordinates to their ROIs.
    """

    probabilities: Float[Array, "N R R"]
    scores: Float[Array, " N"]
    alignment: Alignment


class PersonMask(NamedTuple):
    """One predicted person.

    Attributes:
        rle: the mask as COCO's compressed RLE, of the size of the image.
        score: the model's own score.
        template: index of the chosen template, affine_align.FALLBACK for none.
    """

    rle: dict[str, Any]
    score: float
    template: int


def letterbox_image(image: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "S S 3"]:
    """Scales an image into the square canvas, antialiased, as the training pipeline does.

    On the host: on a device every size of image would be compiled anew.
    """
    matrix = np.asarray(geometry.letterbox(np.asarray(image.shape[:2], np.float32), side)).tolist()
    down = _resize_matrix(image.shape[0], side, matrix[1][1], matrix[1][2])
    across = _resize_matrix(image.shape[1], side, matrix[0][0], matrix[0][2])
    # One channel at a time: a large photo is large enough once as float32.
    channels = [(across @ (down @ image[..., c].astype(np.float32)).T).T for c in range(3)]
    return np.clip(np.round(np.stack(channels, -1)), 0, 255).astype(np.uint8)


def _resize_matrix(size: int, side: int, scale: float, offset: float) -> scipy.sparse.csr_array:
    """(side, size): weights of an antialiased linear resampling along one axis."""
    centers = (np.arange(side) + 0.5 - offset) / scale - 0.5
    reach = max(1 / scale, 1)
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


def predict_rois(
    model: Pose2Seg,
    variables: Any,
    pose_templates: Float[Array, "K P 3"],
    features: Features,
    poses: Float[Array, "N P 3"],
    sizes: Float[Array, "N 2"],
    image_index: Int[Array, " N"],
    valid: Bool[Array, " N"],
    *,
    image_size: int,
    reflect: bool = True,
) -> RoiPrediction:
    """Masks of persons in their ROIs; pure, for use under `jit`.

    Args:
        model: the network.
        variables: its parameters and batch statistics.
        pose_templates: see `templates.load`.
        features: `model.encode` of letterboxed images.
        poses: (x, y, v) in the coordinates of the original images.
        sizes: (height, width) of the original image of each person.
        image_index: the row of the features of each person.
        valid: False for padding.
        image_size: side of the letterboxed images.
        reflect: whether mirrored alignments are tried.
    """
    alignment = affine_align.align_poses(
        poses, pose_templates, sizes, model.roi_size, reflect=reflect
    )
    to_canvas = geometry.letterbox(sizes, image_size)
    from_canvas = geometry.compose(alignment.matrix, geometry.invert(to_canvas))
    placed = geometry.apply_to_poses(to_canvas, poses)
    logits: Any = model.apply(
        variables, features, placed, from_canvas, image_index, valid, method="segment"
    )
    probabilities = jax.nn.sigmoid(logits)
    return RoiPrediction(probabilities, losses.mask_score(probabilities), alignment)


class Network:
    """A trained network on all local devices."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        variables: Any,
        pose_templates: Float[Array, "K P 3"],
    ):
        """Compiles lazily: nothing runs here.

        Args:
            config: the experiment.
            variables: parameters and batch statistics.
            pose_templates: the templates it was trained with.
        """
        self._model = train_state.create_model(config)
        self._variables = jax.tree.map(jnp.asarray, variables)
        self._image_size = config.dataset.image_size
        self._devices = parallel.num_local_devices()
        self._slots = -(-config.eval.persons_per_batch // self._devices)

        def encode(variables, images):
            return self._model.apply(variables, images, method="encode")

        def segment(variables, features, poses, sizes, image_index, valid):
            return predict_rois(
                self._model,
                variables,
                jnp.asarray(pose_templates),
                features,
                poses,
                sizes,
                image_index,
                valid,
                image_size=self._image_size,
                reflect=config.align.reflect,
            )

        self._encode = parallel.map_devices(encode, 1, 1)
        self._segment = parallel.map_devices(segment, 1, 5)

    @property
    def image_size(self) -> int:
        """Side of the square images that it takes."""
        return self._image_size

    def predict(
        self,
        images: UInt8[np.ndarray, "D B S S 3"],
        poses: Sequence[Sequence[Sequence[np.ndarray] | np.ndarray]],
        sizes: Int[np.ndarray, "D B 2"],
    ) -> list[list[list[PersonMask]]]:
        """Masks for any number of persons; every image is encoded once.

        Args:
            images: letterboxed images, for D devices.
            poses: per device and image, (P, 17, 3) poses in the coordinates of the original image;
                P may be 0 and may differ.
            sizes: (height, width) of the original images.

        Returns:
            Per device and image, its persons in the order of the poses.
        """
        results: list[list[list[PersonMask]]] = [[[] for _ in row] for row in poses]
        queues = [
            [(b, pose) for b, stack in enumerate(row) for pose in np.asarray(stack)]
            for row in poses
        ]
        rounds = -(-max(map(len, queues), default=0) // self._slots)
        if not rounds:
            return results
        features = self._encode(self._variables, images)
        for start in range(0, rounds * self._slots, self._slots):
            chunks = [queue[start : start + self._slots] for queue in queues]
            predicted = self._segment_chunk(features, chunks, sizes)
            for d, chunk in enumerate(chunks):
                for slot, (b, _) in enumerate(chunk):
                    height, width = map(int, sizes[d, b])
                    rle = encode_mask(
                        predicted.probabilities[d, slot],
                        predicted.alignment.matrix[d, slot],
                        height,
                        width,
                    )
                    score = float(predicted.scores[d, slot])
                    template = int(predicted.alignment.template[d, slot])
                    results[d][b].append(PersonMask(rle, score, template))
        return results

    def _segment_chunk(self, features, chunks, sizes):
        shape = (self._devices, self._slots)
        poses = np.zeros((*shape, 17, 3), np.float32)
        image_index = np.zeros(shape, np.int32)
        valid = np.zeros(shape, bool)
        for d, chunk in enumerate(chunks):
            for slot, (b, pose) in enumerate(chunk):
                poses[d, slot], image_index[d, slot], valid[d, slot] = pose, b, True
        person_sizes = np.take_along_axis(sizes, image_index[..., None], axis=1)
        person_sizes = np.where(valid[..., None], person_sizes, 1)  # an empty slot has no size
        predicted = self._segment(
            self._variables, features, poses, person_sizes.astype(np.float32), image_index, valid
        )
        return parallel.to_host(predicted)
