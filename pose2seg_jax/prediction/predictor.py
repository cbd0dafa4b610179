"""`Pose2SegPredictor`: photos of any size and their poses to masks. No TensorFlow on this path."""

import concurrent.futures
import functools
import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from pose2seg_jax import parallel
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models import Features
from pose2seg_jax.prediction.forks import check_not_forked
from pose2seg_jax.prediction.inputs import (
    InputError,
    check_pixels,
    check_pose_scores,
    check_poses,
    image_array,
)
from pose2seg_jax.prediction.network import Network, RoiPrediction, predict_rois
from pose2seg_jax.prediction.pose_estimators import (
    EmbeddingPoses,
    MoveNetPoses,
    PoseEstimator,
)
from pose2seg_jax.prediction.results import Result
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights import hub
from pose2seg_jax.weights.files import Weights

# The branch runs on chunks of so many slots at most. Their sizes are powers of two, so that few shapes are compiled. What four persons
# take fits into the caches of a CPU, and one such chunk does not keep all cores busy, so several run beside each other there
# (docs/performance.md).
_MAX_CHUNK = 32
_MAX_CHUNK_ON_CPU = 4
# A chunk has at most so many times as many slots as persons: five persons take a chunk of four slots and one of one.
_PADDING = 4 / 3


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
        result = predictor(image)                 # masks, boxes, scores, poses, to_coco()
        result = predictor(image, poses)          # of these poses

    The backbone runs once an image, the rest in chunks of 1, 2, 4, 8, 16 or 32 persons (17 in 16 and 1; on a CPU of 1, 2 or 4), and MoveNet
    where no poses are given: eight compilations at most (five), whatever the photos are, each at the first image that needs it (the cost:
    docs/prediction.md). On a CPU, chunks run beside each other, on as many threads as there are cores. Masks go to the image on the host.
    Several threads may share one predictor.
    """

    def __init__(
        self,
        network: Network,
        variables: Any,
        *,
        pose_estimator: PoseEstimator | None = None,
        device: jax.Device | None = None,
        provenance: Mapping[str, Any] | None = None,
    ):
        """Compiles lazily: nothing runs here.

        Args:
            network: the network.
            variables: parameters and batch statistics.
            pose_estimator: asked where a call gives no poses, see `pose_estimators`. It may also return (P, 17, 3) poses
                alone, or poses and their scores (P,). None for the network's own pose heads, which read the features that the
                masks are made of; where it has none, for MoveNet, whose weights are read at the first such call.
            device: to run on; by default JAX's own.
            provenance: where the network comes from, for `push_to_hub`.

        Raises:
            WeightsError: the network has no segmentation branch, or aligns by boxes.
        """
        if not network.spec.segments:
            raise weights.WeightsError(
                "the network has no segmentation branch (config field model.branch): it finds poses, not masks."
                " Name it as the source of the poses: --poses=FILE.safetensors, or pose_estimator=EmbeddingPoses.load(FILE)."
            )
        if network.spec.policy == "box":
            raise weights.WeightsError(
                'the network was trained with the alignment policy "box", a comparison that needs true boxes; it'
                " does not predict from poses."
            )
        check_not_forked()
        self.network = network
        self.provenance = dict(provenance or {})
        self._device = device
        self.variables = jax.device_put(variables, device)
        self._pose_estimator = pose_estimator
        self._own_poses: dict[str, Any] | None = None  # options of `use_own_poses`
        self._lock = threading.Lock()
        platforms = {d.platform for x in jax.tree.leaves(self.variables) for d in x.devices()}
        on_cpu = platforms == {"cpu"}
        self._max_chunk = _MAX_CHUNK_ON_CPU if on_cpu else _MAX_CHUNK
        self._pool = concurrent.futures.ThreadPoolExecutor(parallel.num_cores()) if on_cpu else None

        # The variables are arguments: as constants they would be compiled in, several times.
        def segment(variables, features, poses, sizes, image_index, valid):
            return predict_rois(network, variables, features, poses, sizes, image_index, valid)

        self._encode = jax.jit(network.encode)
        self._segment = jax.jit(segment)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the network and its variables; what was compiled is compiled again where it is unpickled."""
        estimator = self._pose_estimator if self._own_poses is None else None
        return _unpickle, (
            self.network,
            jax.device_get(self.variables),
            estimator,
            self._own_poses,
            self.provenance,
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike | None = None,
        *,
        dtype: str = "float32",
        flip: bool = False,
        exclusive: bool = True,
        pose_estimator: PoseEstimator | None = None,
    ) -> "Pose2SegPredictor":
        """A predictor from a weights file (main.py --mode=export_weights).

        Args:
            path: of the file; None for the model of the package (docs/model_card.md).
            dtype: of the computation; "bfloat16" is faster on GPU and TPU.
            flip: whether images are predicted mirrored too: a little better, for twice the time.
            exclusive: whether a pixel belongs to one person at most, the one whose probability is highest.
            pose_estimator: see `__init__`.

        Raises:
            WeightsError: missing, truncated, of another program, model or convention.
        """
        return cls.from_weights(
            weights.load(path),
            dtype=dtype, flip=flip, exclusive=exclusive, pose_estimator=pose_estimator,
        )  # fmt: skip

    @classmethod
    def from_weights(
        cls,
        loaded: Weights,
        *,
        dtype: str = "float32",
        flip: bool = False,
        exclusive: bool = True,
        pose_estimator: PoseEstimator | None = None,
    ) -> "Pose2SegPredictor":
        """Makes a predictor from loaded weights; see `load`."""
        network = Network(loaded.spec, dtype, flip, exclusive)
        return cls(
            network, loaded.variables, pose_estimator=pose_estimator, provenance=loaded.provenance
        )

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, revision: str | None = None, **options: Any
    ) -> "Pose2SegPredictor":
        """A predictor from a folder of `save_pretrained`, or from Hugging Face's hub.

        Args:
            name: the folder, or "owner/name" on the hub. What was downloaded once is found without a network.
            revision: a branch, tag or commit of the hub.
            **options: of `from_weights`.

        Raises:
            WeightsError: there is no such network, or it cannot be reached.
        """
        return cls.from_weights(hub.load(name, revision), **options)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Writes the network and its card into a folder, for `from_pretrained`.

        Raises:
            UserError: it cannot be written.
        """
        hub.save(folder, self._weights())

    def push_to_hub(self, name: str, *, private: bool = False) -> str:
        """Uploads the network and its card to Hugging Face's hub; returns the address of its page.

        Args:
            name: "owner/name"; made where it is missing.
            private: whether a repository that is made is seen by its owner only.

        Raises:
            WeightsError: huggingface_hub is missing, or the hub refuses or cannot be reached.
        """
        return hub.push(name, self._weights(), private=private)

    def _weights(self) -> Weights:
        return Weights(self.network.spec, jax.device_get(self.variables), self.provenance)

    def encode(self, image: Any) -> EncodedImage:
        """Runs the backbone on an image, to ask for many poses afterwards.

        Args:
            image: as for `__call__`.

        Raises:
            InputError: not (H, W, 3) uint8.
            ImageError: a file that cannot be read.
        """
        check_not_forked()
        image = image_array(image)
        canvas = jax.device_put(self.network.letterbox_image(image)[None], self._device)
        features: Any = self._encode(self.variables, canvas)
        return EncodedImage(features, (image.shape[0], image.shape[1]))

    def __call__(
        self,
        image: Any,
        poses: Any = None,
        pose_scores: Any = None,
    ) -> Result:
        """The masks of an image's persons.

        Args:
            image: (H, W, 3) uint8 RGB of NumPy, JAX or PyTorch, a Pillow image or the path of an image file (an EXIF
                rotation is applied), or what `encode` returned.
            poses: (P, 17, 3), COCO's parts: x and y in continuous image coordinates (the centre of
                the first pixel is .5), and the visibility: 0 missing, 1 hidden, 2 visible. P may be
                0. A part outside of the image counts as missing; a pose without a part in the image
                has an empty mask and score 0. None for those of the pose estimator.
            pose_scores: (P,) how sure a pose estimator is of each pose; None for sure. A person's score
                is this times the mask score.

        Returns:
            The persons in the order of the poses.

        Raises:
            InputError: an array of another kind, or no poses for what `encode` returned.
            ImageError: a file that cannot be read.
        """
        check_not_forked()
        if not isinstance(image, EncodedImage):
            image = image_array(image)
        if poses is None:
            image, poses, pose_scores = self._estimate(image)
        poses = check_poses(poses)
        pose_scores = check_pose_scores(pose_scores, len(poses))
        size = image.size if isinstance(image, EncodedImage) else image.shape[:2]
        check_pixels(poses, *size)
        if not len(poses):  # nothing runs for nobody
            return Result.empty(size)
        encoded = image if isinstance(image, EncodedImage) else self.encode(image)
        rois = self.rois(encoded, poses)
        return Result.from_rois(rois, size, poses, pose_scores, exclusive=self.network.exclusive)

    def rois(self, encoded: EncodedImage, poses: Array) -> RoiPrediction:
        """What `__call__` takes to the image: the probabilities in the ROIs, and the alignment.

        Args:
            encoded: what `encode` returned.
            poses: as for `__call__`.

        Returns:
            NumPy arrays.
        """
        check_not_forked()
        poses = check_poses(poses)
        sizes = chunk_sizes(len(poses), self._max_chunk)
        chunks = np.split(poses, np.cumsum(sizes[:-1]))
        segment = functools.partial(self._segment_chunk, encoded)
        run = self._pool.map if self._pool and len(chunks) > 1 else map
        return jax.tree.map(lambda *parts: np.concatenate(parts), *run(segment, chunks, sizes))

    def _segment_chunk(self, encoded: EncodedImage, poses: np.ndarray, slots: int) -> RoiPrediction:
        count = len(poses)
        padded = np.zeros((slots, *poses.shape[1:]), np.float32)
        padded[:count] = poses
        sizes = np.broadcast_to(np.asarray(encoded.size, np.float32), (slots, 2))
        valid = np.arange(slots) < count
        index = np.zeros(slots, np.int32)
        # Where the features are: `jax.default_device` of the caller says nothing to other threads.
        given = jax.device_put((padded, sizes, index, valid), encoded.features.maps.device)
        predicted = self._segment(self.variables, encoded.features, *given)
        return jax.tree.map(lambda values: values[:count], jax.device_get(predicted))

    def use_own_poses(self, **options: Any) -> None:
        """Finds poses with the network's own pose heads, where a call gives none, with other options than theirs.

        Args:
            **options: of `EmbeddingPoses`.

        Raises:
            WeightsError: it has no pose heads.
        """
        self._pose_estimator = EmbeddingPoses(
            self.network, self.variables, **options, device=self._device
        )
        self._own_poses = options

    def _estimate(
        self, image: np.ndarray | EncodedImage
    ) -> tuple[np.ndarray | EncodedImage, Array, Array | None]:
        """The image, encoded where its poses come from the same features, and the poses."""
        with self._lock:
            if self._pose_estimator is None:
                if self.network.spec.finds_poses:
                    self.use_own_poses()
                else:
                    self._pose_estimator = MoveNetPoses(flip=self.network.flip, device=self._device)
        estimator: Any = self._pose_estimator
        if self._own_poses is not None:
            if not isinstance(image, EncodedImage) and not estimator.accurate:
                image = self.encode(image)
            if isinstance(image, EncodedImage):
                found: Any = estimator.of_features(image.features, image.size)
                return image, found.poses, found.scores
        if isinstance(image, EncodedImage):
            raise InputError(
                "no poses: an encoded image has no pixels to find people in; give (P, 17, 3), or the image."
            )
        found = estimator(image)
        return (image, found[0], found[1]) if isinstance(found, tuple) else (image, found, None)


def chunk_sizes(count: int, largest: int) -> list[int]:
    """Returns the number of slots of each chunk that this many persons take; one slot where there are no persons.

    Args:
        count: how many persons.
        largest: so many slots at most, a power of two.
    """
    sizes = []
    left = max(count, 1)
    while left > 0:
        slots = min(1 << (left - 1).bit_length(), largest)
        sizes.append(slots if slots <= _PADDING * left else slots // 2)
        left -= sizes[-1]
    return sizes


def _unpickle(
    network: Network,
    variables: Any,
    estimator: PoseEstimator | None,
    own_poses: dict[str, Any] | None,
    provenance: dict[str, Any],
) -> Pose2SegPredictor:
    made = Pose2SegPredictor(network, variables, pose_estimator=estimator, provenance=provenance)
    if own_poses is not None:
        made.use_own_poses(**own_poses)
    return made
