"""`Evaluator`: predicts and scores a data set, for one state of a network after another."""

import collections
import concurrent.futures
import copy
import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Int, UInt8

from pose2seg_jax import parallel, progress, random_roots
from pose2seg_jax.alignment import pose_noise
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol, results_files
from pose2seg_jax.people import coco, pose_files
from pose2seg_jax.people.images import ImageError, open_image
from pose2seg_jax.people.parts import NUM_PARTS
from pose2seg_jax.prediction.batch_predictor import NOBODY, BatchPredictor, Persons
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.pose_estimators import PoseEstimator

_T = TypeVar("_T")


class EvalBatch(NamedTuple):
    """Images for D devices, B each.

    Attributes:
        images: letterboxed, RGB.
        sizes: (height, width) of the original images; (1, 1) in padding.
        image_id: of the annotations; -1 in padding.
        valid: False in the padding of the last batch.
    """

    images: UInt8[np.ndarray, "D B S S 3"]
    sizes: Int[np.ndarray, "D B 2"]
    image_id: Int[np.ndarray, "D B"]
    valid: Bool[np.ndarray, "D B"]


class Evaluator:
    """Predicts and scores the same images for one state of a network after another.

    What is the same for all states is done once: the annotations are checked when it is made, the network is
    compiled in the first run.

    Attributes:
        dataset: the annotations.
    """

    def __init__(
        self,
        network: Network,
        dataset: coco.Dataset,
        image_directory: os.PathLike,
        persons: Mapping[int, Persons] | Callable[[Any], Mapping[int, Persons]],
        *,
        name: str,
        annotated: bool,
        batch_size: int,
        persons_per_batch: int,
    ):
        """Checks everything but the images.

        Args:
            network: the network.
            dataset: the annotations.
            image_directory: where its images are.
            persons: by image id, whose masks are predicted; see `annotated_persons` and `estimated_persons`. Or a function
                that finds them for the variables of each run.
            name: what the table calls the predictions.
            annotated: whether the poses are those of the annotations.
            batch_size: images over all devices; rounded up to a multiple of their number.
            persons_per_batch: persons over all devices; more take further rounds.

        Raises:
            UserError: there is nothing to score, or a batch of no images.
        """
        if not dataset.posed_images:
            raise UserError(f"{dataset.path}: holds no person with a pose to score.")
        coco_protocol.ground_truth(dataset.posed_images)  # whether everybody has a mask
        if batch_size < 1 or persons_per_batch < 1:
            raise UserError("config fields eval.batch_size and eval.persons_per_batch: 1 or more.")
        self.dataset = dataset
        self._directory = image_directory
        self._persons = persons
        self._name = name
        self._annotated = annotated
        self._network = network
        self._devices = parallel.num_local_devices()
        self._per_device = -(-batch_size // self._devices)
        self._predictor = BatchPredictor(network, persons_per_batch)

    def with_persons(self, persons: Mapping[int, Persons]) -> "Evaluator":
        """Returns an evaluator of other persons in the same images, for which nothing is compiled again."""
        other = copy.copy(self)
        other._persons = persons
        return other

    def run(self, variables: Any) -> coco_protocol.Evaluation:
        """Scores the network with these parameters and batch statistics.

        Images that cannot be read are named and left out.

        Raises:
            UserError: none can be read.
        """
        found = self._persons(variables) if callable(self._persons) else self._persons
        seen, results = self._predict(variables, found)
        wanted = len(self.dataset.posed_images)
        if wanted and not seen:
            raise UserError(
                f"{self._directory}: none of the {wanted} images of {self.dataset.path} can be read."
            )
        if len(seen) < wanted:
            logging.warning(
                "%d of %d images could not be read and are left out of the evaluation.",
                wanted - len(seen), wanted,
            )  # fmt: skip
        kept = set(seen)
        images = [image for image in self.dataset.images if image.id in kept]
        return coco_protocol.evaluate_results(
            images, results, self._name, annotated=self._annotated, data=self.dataset.name
        )

    def _predict(
        self, variables: Any, persons: Mapping[int, Persons]
    ) -> tuple[list[int], list[dict[str, Any]]]:
        """The ids of the images that were read, and their results; every process predicts its share of the images."""
        variables = parallel.replicate(variables)

        def predict(index: int, count: int) -> dict[int, list[dict[str, Any]]]:
            found = {}
            images = self.dataset.posed_images[index::count]
            for batch, wanted, finish in one_ahead(self._started(variables, persons, images)):
                results = finish()
                for d, b in zip(*np.nonzero(batch.valid), strict=True):
                    image_id = int(batch.image_id[d, b])
                    found[image_id] = results[d][b].to_coco(image_id, wanted[d][b].ids)
            return found

        results = _merged(parallel.share(predict))
        seen = [image.id for image in self.dataset.posed_images if image.id in results]
        return seen, [entry for image_id in seen for entry in results[image_id]]

    def _started(
        self, variables: Any, persons: Mapping[int, Persons], images: Sequence[coco.Image]
    ) -> Iterator[tuple[Any, ...]]:
        """Batches of which the devices know already."""
        for batch in self._batches(images):
            wanted = [
                [persons.get(int(image_id), NOBODY) for image_id in row] for row in batch.image_id
            ]
            finish = self._predictor.start(variables, batch.images, wanted, batch.sizes)
            yield batch, wanted, finish

    def _batches(self, images: Sequence[coco.Image]) -> Iterator[EvalBatch]:
        shape = (self._devices, self._per_device)
        size = self._devices * self._per_device
        side = self._network.spec.image_size
        read = progress.show(self._read_images(images), "evaluation", "image", len(images))
        while group := list(itertools.islice(read, size)):
            batch = EvalBatch(
                np.zeros((size, side, side, 3), np.uint8),
                np.ones((size, 2), np.int64),
                np.full(size, -1),
                np.arange(size) < len(group),
            )
            for row, (image, canvas) in enumerate(group):
                batch.images[row] = canvas
                batch.sizes[row] = image.height, image.width
                batch.image_id[row] = image.id
            yield EvalBatch(*(values.reshape(*shape, *values.shape[1:]) for values in batch))

    def _read_images(self, wanted: Sequence[coco.Image]) -> Iterator[tuple[coco.Image, np.ndarray]]:
        """The images that can be read, letterboxed, in order; some are read ahead."""
        ahead = 2 * self._devices * self._per_device
        pending: collections.deque[tuple[coco.Image, concurrent.futures.Future]]
        pending = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(parallel.num_cores()) as pool:
            images = iter(wanted)
            while True:
                for image in itertools.islice(images, ahead - len(pending)):
                    pending.append((image, pool.submit(self._read_image, image)))
                if not pending:
                    return
                image, canvas = pending.popleft()
                try:
                    yield image, canvas.result()
                except ImageError as error:
                    logging.warning("%s; skipped.", error)

    def _read_image(self, image: coco.Image) -> np.ndarray:
        return self._network.letterbox_image(_open(self._directory, image))


def annotated_persons(dataset: coco.Dataset, noise: float, seed: int) -> dict[int, Persons]:
    """Returns the posed persons of a data set by image id.

    Args:
        dataset: the annotations.
        noise: level at which `pose_noise.perturb_poses` makes their poses wrong; 0 for none.
        seed: of the noise.
    """
    persons = dataset.persons()
    poses = np.asarray([person.pose for person in persons], np.float32)
    if noise and persons:
        ids = np.asarray([person.id for person in persons]).astype(np.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            random_roots.key(seed, "evaluation noise"), ids
        )
        areas = np.asarray([person.mask_area for person in persons], np.float32)
        poses = np.asarray(pose_noise.perturb_poses(keys, poses, areas, noise))
    of_person = {person.id: pose for person, pose in zip(persons, poses, strict=True)}
    return {
        image.id: Persons(
            np.stack([of_person[person.id] for person in image.posed]),
            np.stack([person.bbox for person in image.posed]).astype(np.float32),
            [person.id for person in image.posed],
        )
        for image in dataset.posed_images
    }


def estimated_persons(
    path: str | os.PathLike,
    dataset: coco.Dataset,
    part_score_threshold: float,
    person_score_threshold: float = 0.0,
    *,
    drop_duplicates: bool = True,
    skeleton: str | None = None,
) -> dict[int, Persons]:
    """Returns the persons of a pose file by image id.

    Args:
        path: the file.
        dataset: the annotations whose images the file must be of.
        part_score_threshold: parts with a lower score are missing.
        person_score_threshold: persons with a lower score are left out.
        drop_duplicates: whether a person who is there twice is left out once.
        skeleton: the parts of the file; None to find out.

    Raises:
        UserError: the file cannot be read, or holds poses of other images.
    """
    file = pose_files.read(path, part_score_threshold, skeleton)
    persons, left_out = {}, collections.Counter[str]()
    images = {image.id: image for image in dataset.images}
    for key, image_id in results_files.match_images(path, file.images, dataset).items():
        image, found = images[image_id], file.poses[key]
        found = found.on_photo(
            image.height, image.width, f"{path}: image {image_id}", drop_duplicates=drop_duplicates
        )
        left_out.update(found.left_out)
        scores = np.ones(len(found.poses)) if found.scores is None else found.scores
        kept = scores >= person_score_threshold
        boxes = np.zeros((int(kept.sum()), 4), np.float32)
        persons[image_id] = Persons(found.poses[kept], boxes, None, scores[kept])
    left_out["images of the data set that the file does not name"] = sum(
        image.id not in persons for image in dataset.posed_images
    )
    pose_files.warn_left_out(path, left_out)
    return persons


def found_persons(
    dataset: coco.Dataset, image_directory: os.PathLike, estimate: PoseEstimator
) -> dict[int, Persons]:
    """Returns the persons that a pose estimator finds, by image id; those of images that cannot be read are missing.

    Every process looks at its share of the images.

    Args:
        dataset: the annotations, which say which images.
        image_directory: where its images are.
        estimate: the estimator.
    """

    def look(index: int, count: int) -> dict[int, list[Any]]:
        people = {}
        images = dataset.posed_images[index::count]
        for image in progress.show(images, "poses", "image", len(images)):
            try:
                found = estimate(_open(image_directory, image))
            except ImageError:
                continue  # the evaluation names it
            people[image.id] = [np.asarray(x).tolist() for x in (found.poses, found.scores)]
        return people

    persons = {}
    for image_id, (poses, scores) in _merged(parallel.share(look)).items():
        found = np.asarray(poses, np.float32).reshape(-1, NUM_PARTS, 3)
        boxes = np.zeros((len(found), 4), np.float32)
        persons[image_id] = Persons(found, boxes, None, np.asarray(scores))
    return persons


def _merged(parts: list[dict[Any, _T]]) -> dict[int, _T]:
    """What several processes have of images; JSON makes text of the images' ids."""
    return {int(image_id): value for part in parts for image_id, value in part.items()}


class PoseEvaluator:
    """Scores the poses that a network without a segmentation branch finds, for one state after another.

    Attributes:
        dataset: the annotations.
    """

    def __init__(
        self,
        open_estimator: Callable[[Any], PoseEstimator],
        dataset: coco.Dataset,
        image_directory: os.PathLike,
        *,
        name: str,
    ):
        """Checks that there is something to score.

        Args:
            open_estimator: the variables of a network to the estimator.
            dataset: the annotations.
            image_directory: where its images are.
            name: what the table calls the poses.

        Raises:
            UserError: there is nothing to score.
        """
        if not dataset.posed_images:
            raise UserError(f"{dataset.path}: holds no person with a pose to score.")
        self.dataset = dataset
        self._open, self._directory, self._name = open_estimator, image_directory, name

    def run(self, variables: Any) -> coco_protocol.Evaluation:
        """Scores the network with these parameters and batch statistics.

        Raises:
            UserError: no image can be read.
        """
        found = found_persons(self.dataset, self._directory, self._open(variables))
        if not found:
            raise UserError(
                f"{self._directory}: none of the images of {self.dataset.path} can be read."
            )
        images = [image for image in self.dataset.posed_images if image.id in found]
        results = [
            entry
            for image in images
            for entry in coco_protocol.pose_results(
                image.id, found[image.id].poses, found[image.id].scores
            )
        ]
        return coco_protocol.evaluate_poses(images, results, self._name, data=self.dataset.name)


@runtime_checkable
class StateEvaluator(Protocol):
    """Scores one state of a network after another: `Evaluator`, `PoseEvaluator`."""

    dataset: coco.Dataset

    def run(self, variables: Any) -> coco_protocol.Evaluation:
        """Scores the network with these parameters and batch statistics."""


def _open(directory: os.PathLike, image: coco.Image) -> UInt8[np.ndarray, "H W 3"]:
    path = directory / image.file_name  # type: ignore[operator]
    return np.asarray(open_image(path, (image.height, image.width)).convert("RGB"))


def one_ahead(items: Iterable[_T]) -> Iterator[_T]:
    """Yields the same items, each only after the next one was made."""
    items = iter(items)
    held = list(itertools.islice(items, 1))
    for item in items:
        yield held.pop()
        held.append(item)
    yield from held
