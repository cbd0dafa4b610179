"""`EmbeddingPoses`: poses by the pose heads of a network of ours (Associative Embedding)."""

import dataclasses
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from pose2seg_jax.alignment import geometry
from pose2seg_jax.alignment.geometry import Array
from pose2seg_jax.models import Features, NetworkSpec
from pose2seg_jax.people.parts import FLIPPED_PARTS
from pose2seg_jax.prediction.forks import check_not_forked
from pose2seg_jax.prediction.inputs import image_array
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.prediction.pose_estimators import tag_grouping
from pose2seg_jax.prediction.pose_estimators.estimated_poses import (
    EstimatedPoses,
    sure_poses,
    threshold,
)
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights.files import WeightsError

# Sizes of the image beside its own, whose heatmaps are averaged with it where `accurate` is asked for (paper).
ACCURATE_SCALES = (0.5, 2.0)
PART_SCORE_THRESHOLD = 0.1
PERSON_SCORE_THRESHOLD = 0.1


class EmbeddingPoses:
    """A pose estimator: finds the people of an image and their poses, with the pose heads of a network.

        estimate = EmbeddingPoses.load("poses.safetensors")
        poses, scores, part_scores = estimate(image)

    Several threads may share one. The image is looked at mirrored too where `network.flip` is set.

    Attributes:
        network: the network.
        variables: its parameters and batch statistics.
        accurate: whether the image is looked at in three sizes.
    """

    def __init__(
        self,
        network: Network,
        variables: Any,
        *,
        accurate: bool = False,
        part_score_threshold: float | None = None,
        person_score_threshold: float | None = None,
        device: jax.Device | None = None,
    ):
        """Compiles lazily: nothing runs here.

        Args:
            network: the network.
            variables: its parameters and batch statistics.
            accurate: whether the image is looked at in half and twice its size too: better, for six times the time.
            part_score_threshold: parts with a lower score are missing; None for 0.1.
            person_score_threshold: persons with a lower score are left out; None for 0.1.
            device: to run on; by default JAX's own.

        Raises:
            WeightsError: the network has no pose heads.
            InputError: a threshold is not between 0 and 1.
        """
        check_not_forked()
        if not network.spec.finds_poses:
            raise WeightsError(
                "the network has no pose heads (config field model.pose_head); name another for the poses."
            )
        part, person = thresholds()
        self._part_threshold = threshold(part_score_threshold, part)
        self._person_threshold = threshold(person_score_threshold, person)
        self.network, self.accurate = network, accurate
        scales = ACCURATE_SCALES if accurate else ()
        self._networks = [network, *(_resized(network, scale) for scale in scales)]
        self.variables = jax.device_put(variables, device)
        self._device = device

    def __getstate__(self) -> dict[str, Any]:
        """Pickles the variables and settings; it runs on JAX's own device where it is unpickled."""
        return {**self.__dict__, "variables": jax.device_get(self.variables), "_device": None}

    @classmethod
    def load(
        cls, path: str | os.PathLike, *, flip: bool = False, **options: Any
    ) -> "EmbeddingPoses":
        """Reads a weights file with pose heads (main.py --mode=export_weights).

        Args:
            path: of the file.
            flip: whether the image is looked at mirrored too.
            **options: see `__init__`.

        Raises:
            WeightsError: as `weights.files.load`, and where the network has no pose heads.
        """
        loaded = weights.load(path)
        return cls(Network(loaded.spec, flip=flip), loaded.variables, **options)

    def __call__(self, image: Any) -> EstimatedPoses:
        """Returns the persons of an image, the surest first.

        Args:
            image: anything that `Pose2SegPredictor` takes.

        Raises:
            InputError: it is no image.
            ImageError: a file that cannot be read.
        """
        check_not_forked()
        image = image_array(image)
        maps = []
        for network in self._networks:
            canvas = jax.device_put(network.letterbox_image(image)[None], self._device)
            features = _encode(network, self.variables, canvas)
            maps.append(_maps(network, self.variables, features))
        heatmaps, tags = maps[0]
        if len(maps) > 1:
            heatmaps = _mean_heatmaps([found for found, _ in maps])
        return self._decoded(heatmaps, tags, image.shape[:2])

    def of_features(self, features: Features, size: tuple[int, int]) -> EstimatedPoses:
        """Returns the persons of an image that the network has encoded already.

        Args:
            features: `network.encode` of the letterboxed image.
            size: (height, width) of the image.
        """
        heatmaps, tags = _maps(self.network, self.variables, features)
        return self._decoded(heatmaps, tags, size)

    def _decoded(
        self, heatmaps: Float[Array, "h w 17"], tags: Float[Array, "h w 17 D"], size: Any
    ) -> EstimatedPoses:
        points, scores = tag_grouping.find_people(heatmaps, tags)
        padded = np.zeros((tag_grouping.MAX_PEAKS, *points.shape[1:]), np.float32)
        padded[: len(points)] = points / heatmaps.shape[0]
        given = jax.device_put((padded, np.asarray(size, np.float32)), self._device)
        points = np.asarray(jax.device_get(_to_image(self.network.spec, *given)))[: len(points)]
        return sure_poses(
            points, scores, scores.mean(axis=1), self._part_threshold, self._person_threshold
        )


def thresholds() -> tuple[float, float]:
    """Returns the usual thresholds of parts and of persons."""
    return PART_SCORE_THRESHOLD, PERSON_SCORE_THRESHOLD


@functools.partial(jax.jit, static_argnums=0)
def _encode(network: Network, variables: Any, canvas: UInt8[Array, "1 S S 3"]) -> Features:
    return network.encode(variables, canvas)


@functools.partial(jax.jit, static_argnums=0)
def _to_image(
    spec: NetworkSpec, points: Float[Array, "K 17 2"], size: Float[Array, " 2"]
) -> Float[jax.Array, "K 17 2"]:
    """Points in sides of the canvas to the coordinates of an image (height, width)."""
    to_canvas = spec.convention.letterbox(size, spec.image_size)
    return geometry.apply(geometry.invert(to_canvas), points * spec.image_size)


def find_maps(
    network: Network, variables: Any, features: Features
) -> tuple[Float[jax.Array, "h w 17"], Float[jax.Array, "h w 17 D"]]:
    """Returns the heatmaps and the tags of one image: D is 2 where the mirrored image was looked at too, else 1; pure."""
    found: Any = network.model.apply(variables, features, method="find_parts")
    parts = found[-1]
    heatmaps, tags = parts.heatmaps[0], parts.tags[0][..., None]
    if network.flip:
        swapped = np.asarray(FLIPPED_PARTS)
        other = [values[1, :, ::-1][..., swapped] for values in (parts.heatmaps, parts.tags)]
        heatmaps = (heatmaps + other[0]) / 2
        tags = jnp.concatenate([tags, other[1][..., None]], axis=-1)
    return heatmaps, tags


_maps = functools.partial(jax.jit, static_argnums=0)(find_maps)


@jax.jit
def _mean_heatmaps(maps: list[Float[Array, "_ _ 17"]]) -> Float[jax.Array, "h w 17"]:
    """The mean of maps of one image, in the size of the first."""
    shape = maps[0].shape
    return sum(jax.image.resize(found, shape, "bilinear", antialias=False) for found in maps) / len(
        maps
    )


def _resized(network: Network, scale: float) -> Network:
    """The network for another size of the image."""
    spec = network.spec
    coarsest = spec.make_backbone().coarsest
    side = max(round(spec.backbone_image_size * scale / coarsest), 1) * coarsest
    fields = {"image_size": side, "backbone_image_size": side}
    return dataclasses.replace(network, spec=spec.with_fields(fields))
