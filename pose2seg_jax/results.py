"""Predicted persons in their image: from ROI to RLE on the host, and what the predictor returns."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int
from pycocotools import mask as mask_utils

from pose2seg_jax import affine_align

PERSON_CATEGORY = 1
THRESHOLD = 0.5  # of the mask probability


def encode_mask(
    probability: Float[np.ndarray, "R R"], matrix: Float[np.ndarray, "2 3"], height: int, width: int
) -> dict[str, Any]:
    """The mask of a person in its image as COCO's compressed RLE.

    As `affine_align.reverse_align` and a threshold, but only around the cells that are inside, and
    without an array of the size of the image: nothing is compiled for a new size.

    Args:
        probability: in the ROI.
        matrix: image to ROI.
        height: of the image.
        width: of the image.
    """
    inside = probability > THRESHOLD
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not rows.size:
        return _compress([height * width], height, width)
    # Between two centres, no value exceeds both: the mask ends before the next centre.
    left, right = np.clip([columns[0] - 0.5, columns[-1] + 1.5], 0, len(probability))
    top, bottom = np.clip([rows[0] - 0.5, rows[-1] + 1.5], 0, len(probability))
    matrix = np.asarray(matrix, np.float64)
    linear, offset = matrix[:, :2], matrix[:, 2]
    corners = np.asarray([[left, top], [right, top], [left, bottom], [right, bottom]])
    reach = (corners - offset) @ np.linalg.inv(linear).T
    x0, y0 = np.maximum(np.floor(reach.min(0)), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(reach.max(0)), (width, height)).astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        return _compress([height * width], height, width)
    start = linear @ [x0, y0] + offset
    # Pillow samples between pixel centres, repeats the outermost half cell and fills with 0 beyond.
    # x and y change places: RLE goes down the columns.
    window = PIL.Image.fromarray(np.asarray(probability, np.float32)).transform(
        (y1 - y0, x1 - x0),
        PIL.Image.Transform.AFFINE,
        (*linear[0, ::-1], start[0], *linear[1, ::-1], start[1]),
        PIL.Image.Resampling.BILINEAR,
    )
    return _encode_window(np.asarray(window) > THRESHOLD, x0, y0, height, width)


def _encode_window(
    window: Bool[np.ndarray, "w h"], x0: int, y0: int, height: int, width: int
) -> dict[str, Any]:
    """RLE of a mask that is False outside of a window, which is given by columns."""
    padded = np.zeros((len(window), window.shape[1] + 1), bool)  # every column ends outside
    padded[:, :-1] = window
    flat = padded.ravel()
    steps = np.flatnonzero(np.concatenate([flat[:1], flat[1:] != flat[:-1]]))
    columns, rows = np.divmod(steps, padded.shape[1])
    edges = (x0 + columns) * height + y0 + rows
    # A run that reaches the end of its column and goes on in the next one is one run.
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2])
    edges = np.delete(edges, np.concatenate([2 * joined + 1, 2 * joined + 2]))
    counts = np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
    return _compress(counts if counts[-1] else counts[:-1], height, width)


def _compress(counts: list[int], height: int, width: int) -> dict[str, Any]:
    return mask_utils.frPyObjects({"size": [height, width], "counts": counts}, height, width)


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
