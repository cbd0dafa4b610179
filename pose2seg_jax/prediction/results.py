"""`Result`: the predicted persons of an image."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as mask_utils

from pose2seg_jax.alignment import affine_align
from pose2seg_jax.people.masks import encode_mask
from pose2seg_jax.people.parts import PERSON_CATEGORY
from pose2seg_jax.prediction.network import RoiPrediction


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The P persons of an image, in the order of the poses that were asked for.

    Attributes:
        size: (height, width) of the image.
        rles: masks as COCO's compressed RLE.
        mask_scores: (P,) the IoU that the network expects of each mask, in [0, 1], see `network.mask_score`.
        pose_scores: (P,) how sure the pose estimator was of each pose; 1 for annotated ones.
        template: (P,) index of the pose template that was fitted; -1 for the fallback window.
    """

    size: tuple[int, int]
    rles: tuple[dict[str, Any], ...]
    mask_scores: Float[np.ndarray, " P"]
    pose_scores: Float[np.ndarray, " P"]
    template: Int[np.ndarray, " P"]

    def __post_init__(self):
        """Checks that the parts belong together.

        Raises:
            ValueError: they do not.
        """
        count = len(self.rles)
        for name in ("mask_scores", "pose_scores", "template"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"{count} masks, but {name} {getattr(self, name).shape}")
        sizes = {tuple(map(int, rle["size"])) for rle in self.rles}
        if sizes - {tuple(self.size)}:
            raise ValueError(f"masks of sizes {sorted(sizes)} in an image of {self.size}")
        if not np.all((self.mask_scores >= 0) & (self.mask_scores <= 1)):
            raise ValueError("mask_scores outside of [0, 1]")
        if not np.all((self.pose_scores >= 0) & np.isfinite(self.pose_scores)):
            raise ValueError("pose_scores must be finite and 0 or more")

    @classmethod
    def empty(cls, size: tuple[int, ...]) -> "Result":
        """Returns the result for an image (height, width) without persons."""
        height, width = size
        return cls((height, width), (), np.zeros(0), np.zeros(0), np.zeros(0, int))

    @classmethod
    def from_rois(
        cls, rois: RoiPrediction, size: tuple[int, int], pose_scores: Any = None
    ) -> "Result":
        """Takes what the network says of the persons of one image to that image, on the host.

        Args:
            rois: of the persons.
            size: (height, width) of the image.
            pose_scores: (P,), see above; None for ones.

        Raises:
            ValueError: scores of another number of persons, or not numbers of 0 or more.
        """
        rles = tuple(
            encode_mask(np.asarray(probability), np.asarray(matrix), *size)
            for probability, matrix in zip(rois.probabilities, rois.alignment.matrix, strict=True)
        )
        known = np.ones(len(rles)) if pose_scores is None else np.asarray(pose_scores, np.float64)
        mask_scores = np.asarray(rois.scores, np.float64)
        return cls(size, rles, mask_scores, known, np.asarray(rois.alignment.template))

    @property
    def scores(self) -> Float[np.ndarray, " P"]:
        """The own score of each person: mask score times pose score."""
        return self.mask_scores * self.pose_scores

    def __len__(self) -> int:
        """The number of persons."""
        return len(self.rles)

    @property
    def masks(self) -> Bool[np.ndarray, "P H W"]:
        """The masks as arrays, decoded at each call."""
        if not self.rles:
            return np.zeros((0, *self.size), bool)
        return mask_utils.decode(list(self.rles)).transpose(2, 0, 1).astype(bool)

    @property
    def boxes(self) -> Float[np.ndarray, "P 4"]:
        """(x, y, width, height) of the masks; zeros for an empty one."""
        return mask_utils.toBbox(list(self.rles)) if self.rles else np.zeros((0, 4))

    @property
    def fallback(self) -> Bool[np.ndarray, " P"]:
        """Whether no template fitted."""
        return self.template == affine_align.FALLBACK

    def to_coco(
        self, image_id: int | str, person_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """The entries of a COCO results file, ready for `json.dump`.

        Args:
            image_id: of the image.
            person_ids: ids of the annotated persons whose poses these were, where there are such.
        """
        entries = []
        for index, rle in enumerate(self.rles):
            entry: dict[str, Any] = {
                "image_id": image_id,
                "category_id": PERSON_CATEGORY,
                "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
                "score": float(self.scores[index]),
                "mask_score": float(self.mask_scores[index]),
                "pose_score": float(self.pose_scores[index]),
                "template": int(self.template[index]),
            }
            if person_ids is not None:
                entry["person_id"] = person_ids[index]
            entries.append(entry)
        return entries
