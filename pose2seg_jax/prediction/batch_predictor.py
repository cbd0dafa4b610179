"""Prediction for many images at once, on all local devices; what evaluation runs."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from pose2seg_jax import parallel
from pose2seg_jax.prediction.network import Network, RoiPrediction, predict_rois
from pose2seg_jax.prediction.results import Result


class Persons(NamedTuple):
    """The P persons to look for in one image.

    Attributes:
        poses: (P, 17, 3) in the coordinates of the original image.
        boxes: (P, 4) x, y, width, height; read only by networks that align by box.
        ids: of the P annotations, where the persons are annotated ones.
        scores: (P,) of the poses, where an estimator made them.
    """

    poses: Float[np.ndarray, "P 17 3"]
    boxes: Float[np.ndarray, "P 4"]
    ids: Sequence[int] | None = None
    scores: Float[np.ndarray, " P"] | None = None


NOBODY = Persons(np.zeros((0, 17, 3), np.float32), np.zeros((0, 4), np.float32))


class BatchPredictor:
    """A network on all local devices, for batches of letterboxed images.

    Compiled once, however often its variables change.
    """

    def __init__(self, network: Network, persons_per_batch: int):
        """Compiles lazily: nothing runs here.

        Args:
            network: the network.
            persons_per_batch: over all devices; more persons than that take further rounds.
        """
        self._exclusive = network.exclusive
        self._devices = parallel.num_local_devices()
        self._slots = -(-persons_per_batch // self._devices)

        def segment(variables, features, poses, sizes, image_index, valid, boxes):
            return predict_rois(
                network, variables, features, poses, sizes, image_index, valid, boxes
            )

        self._encode = parallel.map_devices(network.encode, 1, 1)
        self._segment = parallel.map_devices(segment, 1, 6)

    def start(
        self,
        variables: Any,
        images: UInt8[np.ndarray, "D B S S 3"],
        persons: Sequence[Sequence[Persons]],
        sizes: Int[np.ndarray, "D B 2"],
    ) -> Callable[[], list[list[Result]]]:
        """Masks for any number of persons; every image is encoded once.

        The devices begin now. A batch that is started before the masks of the one before are taken
        to their images keeps the devices busy meanwhile.

        Args:
            variables: parameters and batch statistics; `parallel.replicate` them first, or every
                call takes them to the devices.
            images: letterboxed images, for D devices.
            persons: per device and image.
            sizes: (height, width) of the original images.

        Returns:
            A function that waits for the devices and returns, per device and image, its persons in
            the order of the poses.
        """
        queues = [[(b, i) for b in range(len(row)) for i in range(len(row[b].poses))] for row in persons]  # fmt: skip
        rounds = -(-max(map(len, queues), default=0) // self._slots)
        features = self._encode(variables, images) if rounds else None
        started = []
        for start in range(0, rounds * self._slots, self._slots):
            chunks = [queue[start : start + self._slots] for queue in queues]
            on_devices = self._segment_chunk(variables, features, chunks, persons, sizes)
            started.append((chunks, on_devices))
        return functools.partial(_finish, started, sizes, persons, self._exclusive)

    def _segment_chunk(self, variables, features, chunks, persons, sizes):
        shape = (self._devices, self._slots)
        poses, boxes = np.zeros((*shape, 17, 3), np.float32), np.zeros((*shape, 4), np.float32)
        image_index = np.zeros(shape, np.int32)
        valid = np.zeros(shape, bool)
        for d, chunk in enumerate(chunks):
            for slot, (b, i) in enumerate(chunk):
                poses[d, slot], boxes[d, slot] = persons[d][b].poses[i], persons[d][b].boxes[i]
                image_index[d, slot], valid[d, slot] = b, True
        person_sizes = np.take_along_axis(sizes, image_index[..., None], axis=1)
        # An empty slot has no size and no box.
        person_sizes = np.where(valid[..., None], person_sizes, 1).astype(np.float32)
        boxes = np.where(valid[..., None], boxes, 1)
        return self._segment(variables, features, poses, person_sizes, image_index, valid, boxes)


def _finish(
    started: Any,
    sizes: Int[np.ndarray, "D B 2"],
    persons: Sequence[Sequence[Persons]],
    exclusive: bool,
) -> list[list[Result]]:
    """The results of chunks on the devices, each beside the (image, person) of its slots."""
    found: list[list[list[RoiPrediction]]] = [[[] for _ in row] for row in sizes]
    for chunks, on_devices in started:
        predicted = parallel.to_host(on_devices)
        for d, chunk in enumerate(chunks):
            of_image = np.asarray([b for b, _ in chunk], int)
            for b in np.unique(of_image):
                slots = np.flatnonzero(of_image == b)
                part = jax.tree.map(lambda values, d=d, slots=slots: values[d, slots], predicted)
                found[d][b].append(part)
    return [
        [
            _result(parts, size, one, exclusive)
            for parts, size, one in zip(row, sizes[d].tolist(), persons[d], strict=True)
        ]
        for d, row in enumerate(found)
    ]


def _result(
    parts: list[RoiPrediction], size: list[int], persons: Persons, exclusive: bool
) -> Result:
    height, width = size
    if not parts:
        return Result.empty((height, width))
    rois = jax.tree.map(lambda *p: np.concatenate(p), *parts)
    return Result.from_rois(
        rois, (height, width), persons.poses, persons.scores, exclusive=exclusive
    )
