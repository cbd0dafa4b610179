"""Predicted persons in their image: from ROI to RLE on the host, and what the predictor returns."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as mask_utils

from pose2seg_jax.alignment import affine_align
from pose2seg_jax.people.parts import PERSON_CATEGORY


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """The P persons of an image, in the order of the poses that were asked for.

    Attributes:
        size: (height, width) of the image.
        rles: masks as COCO's compressed RLE.
        scores: (P,) the model's own mask score in [0, 1], the IoU that it expects, see `losses.mask_score`.
        template: (P,) index of the pose template that was fitted; -1 for the fallback window.
    """

    size: tuple[int, int]
    rles: tuple[dict[str, Any], ...]
    scores: Float[np.ndarray, " P"]
    template: Int[np.ndarray, " P"]

    def __post_init__(self):
        """Checks that the parts belong together.

        Raises:
            ValueError: they do not.
        """
        count = len(self.rles)
        if self.scores.shape != (count,) or self.template.shape != (count,):
            raise ValueError(
                f"{count} masks, but scores {self.scores.shape} and template {self.template.shape}"
            )
        sizes = {tuple(map(int, rle["size"])) for rle in self.rles}
        if sizes - {tuple(self.size)}:
            raise ValueError(f"masks of sizes {sorted(sizes)} in an image of {self.size}")
        if not np.all((self.scores >= 0) & (self.scores <= 1)):
            raise ValueError("scores outside of [0, 1]")

    @classmethod
    def of_nobody(cls, size: tuple[int, int]) -> "Result":
        """The result for an image without persons."""
        return cls(size, (), np.zeros(0), np.zeros(0, int))

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
                "template": int(self.template[index]),
            }
            if person_ids is not None:
                entry["person_id"] = person_ids[index]
            entries.append(entry)
        return entries
