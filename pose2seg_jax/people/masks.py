"""Masks as COCO's compressed RLE: from polygons and other encodings, and from a ROI."""

from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int
from pycocotools import mask as mask_utils

THRESHOLD = 0.5  # of the mask probability
MAX_PIXELS = 2**31 - 1  # of an image: pycocotools counts in 32 bits


def encode_mask(
    probability: Float[np.ndarray, "R R"],
    matrix: Float[np.ndarray, "2 3"],
    height: int,
    width: int,
    threshold: float = THRESHOLD,
) -> dict[str, Any]:
    """The mask of a person in its image as COCO's compressed RLE.

    As `sampling.reverse_align` and a threshold, but only around the cells that are inside, and
    without an array of the size of the image: nothing is compiled for a new size.

    Args:
        probability: in the ROI.
        matrix: image to ROI.
        height: of the image.
        width: of the image.
        threshold: the mask is where the probability exceeds it.

    Raises:
        ValueError: the image has more than MAX_PIXELS.
    """
    found = _in_image(probability, matrix, height, width, threshold)
    return encode_cutout(found.values > threshold, found.x, found.y, height, width)


def encode_exclusive_masks(
    probabilities: Float[np.ndarray, "P R R"],
    matrices: Float[np.ndarray, "P 2 3"],
    height: int,
    width: int,
    bodies: Int[np.ndarray, " P"] | None = None,
    scores: Float[np.ndarray, " P"] | None = None,
    threshold: float = THRESHOLD,
) -> list[dict[str, Any]]:
    """The masks of an image's persons, so that a pixel belongs to one body at most.

    A pixel that lies in several masks goes to the body whose probability there, times its score, is highest; of equal ones to
    the first.

    Args:
        probabilities: in the ROIs.
        matrices: image to ROI.
        height: of the image.
        width: of the image.
        bodies: a number for each person; persons with the same number are one body that is there several times, and take
            nothing from each other. None for bodies of their own.
        scores: how sure it is that each person is there, above 0: a doubtful one takes little from a sure one. None for ones.
        threshold: a mask is where its probability exceeds it.

    Raises:
        ValueError: the image has more than MAX_PIXELS.
    """
    found = [
        _in_image(p, m, height, width, threshold)
        for p, m in zip(probabilities, matrices, strict=True)
    ]
    numbers = np.arange(len(found)) if bodies is None else bodies
    weights = np.ones(len(found)) if scores is None else scores
    highest = np.zeros((width, height), np.float32)  # by columns, as a cutout is
    owners = np.full((width, height), -1, np.int32)
    for one, number, weight in zip(found, numbers, weights, strict=True):
        claim = np.where(one.values > threshold, one.values * np.float32(weight), 0)
        best, owner = highest[one.window], owners[one.window]
        takes = claim > best
        best[takes], owner[takes] = claim[takes], number
    return [
        encode_cutout(
            (one.values > threshold) & (owners[one.window] == number), one.x, one.y, height, width
        )
        for one, number in zip(found, numbers, strict=True)
    ]


class _Cutout(NamedTuple):
    """The probabilities of a person around its mask; beyond, they are its threshold at most.

    Attributes:
        values: (w, h) by columns, as RLE counts.
        x: of the first column.
        y: of the first row.
    """

    values: np.ndarray
    x: int
    y: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies in an image (W, H) by columns."""
        width, height = self.values.shape
        return slice(self.x, self.x + width), slice(self.y, self.y + height)


def _in_image(
    probability: np.ndarray, matrix: np.ndarray, height: int, width: int, threshold: float
) -> _Cutout:
    """Takes the probabilities of a ROI to its image, around the cells that are inside."""
    check_size(height, width)
    nothing = _Cutout(np.zeros((0, 0), np.float32), 0, 0)
    inside = probability > threshold
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not rows.size:
        return nothing
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
        return nothing
    start = linear @ [x0, y0] + offset
    # Pillow samples between pixel centres, repeats the outermost half cell and fills with 0 beyond.
    # x and y change places: RLE goes down the columns.
    values = PIL.Image.fromarray(np.asarray(probability, np.float32)).transform(
        (y1 - y0, x1 - x0),
        PIL.Image.Transform.AFFINE,
        (*linear[0, ::-1], start[0], *linear[1, ::-1], start[1]),
        PIL.Image.Resampling.BILINEAR,
    )
    return _Cutout(np.asarray(values), x0, y0)


def encode_cutout(
    cutout: Bool[np.ndarray, "w h"], x0: int, y0: int, height: int, width: int
) -> dict[str, Any]:
    """Returns the RLE of a mask that is False outside of a cut-out, which is given by columns."""
    padded = np.zeros((len(cutout), cutout.shape[1] + 1), bool)  # every column ends outside
    padded[:, :-1] = cutout
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


def check_size(height: int, width: int) -> None:
    """Checks that masks of an image can be counted.

    Raises:
        ValueError: the image has more than MAX_PIXELS.
    """
    if height * width > MAX_PIXELS:
        raise ValueError(f"an image of {width}x{height}, more pixels than a mask can hold")


def encode_segmentation(
    segmentation: Any, height: int, width: int, *, may_be_empty: bool = False
) -> dict[str, Any]:
    """A COCO segmentation (polygons, RLE, compressed RLE) as compressed RLE.

    Polygons with fewer than three points are left out. The mask of RLE may be empty.

    Args:
        segmentation: as COCO has it.
        height: of the image.
        width: of the image.
        may_be_empty: whether a list without a polygon of three points is an empty mask, or an error.

    Raises:
        ValueError: it is none of the three, of another size, or contradicts itself.
    """
    check_size(height, width)
    if isinstance(segmentation, list):
        polygons = []
        for polygon in segmentation:
            points = _numbers(polygon)
            if points is None or points.ndim != 1:
                raise ValueError("polygons that are not lists of finite numbers")
            # The cost of rasterising grows with the length of the edges.
            if np.any(np.abs(points) > 10 * max(height, width)):
                raise ValueError("polygons far outside the image")
            if len(points) >= 6:
                polygons.append(points[: len(points) // 2 * 2].tolist())
        if not polygons and may_be_empty:
            return _compress([height * width], height, width)
        if not polygons:
            raise ValueError("no polygon of three points or more")
        return mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    if not isinstance(segmentation, dict) or not {"counts", "size"} <= segmentation.keys():
        raise ValueError("neither polygons nor RLE")
    if segmentation["size"] not in ([height, width], (height, width)):
        raise ValueError("RLE size that is not the image's")
    counts = segmentation["counts"]
    runs = counts if isinstance(counts, list) else decompress_runs(counts)
    # pycocotools writes beyond its buffer where they do not.
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
        raise ValueError("RLE counts that do not add up to the image")
    return mask_utils.frPyObjects({"size": [height, width], "counts": runs}, height, width)


def decompress_runs(text: Any) -> list[int]:
    """Run lengths of COCO's compressed RLE.

    Five bits a character from 48 up, lowest first, bit 32 for "more follows"; the last
    character's bit 16 is the sign. From the fourth on, a run is the difference to the last but one.
    """
    if isinstance(text, bytes):
        text = text.decode("ascii", "replace")
    if not isinstance(text, str):
        return [-1]
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return runs if shift == 0 else [-1]


def _numbers(values: Any) -> np.ndarray | None:
    """A list of finite numbers as an array, None for anything else."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError):  # lists of different lengths
        return None
    if array.dtype.kind not in "iuf" or not np.all(np.isfinite(array)):
        return None
    return array.astype(np.float64)
