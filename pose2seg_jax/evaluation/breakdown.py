"""Where masks are good and where not: person by person, and by size, labelled parts and overlap."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people import coco


@dataclasses.dataclass(frozen=True, eq=False)
class PersonMask:
    """The mask of one annotated person's own pose.

    Attributes:
        image: with the person.
        person: the annotation.
        pose: that was asked for, (17, 3) as the person's; wrong on purpose where the evaluation has noise.
        segmentation: the predicted mask, RLE.
        score: the IoU that the network expects.
        iou: with the annotated mask.
        overlap: the largest IoU of the person's box with another posed person's.
    """

    image: coco.Image
    person: coco.Person
    pose: np.ndarray
    segmentation: Mapping[str, Any]
    score: float
    iou: float
    overlap: float

    @property
    def side(self) -> float:
        """The root of the annotated mask's area, in pixels."""
        return math.sqrt(self.person.mask_area)

    @property
    def num_parts(self) -> int:
        """Labelled parts."""
        return int(np.sum(self.person.pose[:, 2] > 0))

    def reasons(self) -> list[str]:
        """Returns what may have made the mask wrong, as far as the annotation shows it; nothing where it does not."""
        found = []
        x, y = np.floor(self.person.pose[self.person.pose[:, 2] > 0, :2]).astype(int).T
        height, width = self.person.segmentation["size"] if self.person.segmentation else (0, 0)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        if inside.any():
            mask = mask_utils.decode(self.person.segmentation)
            if np.mean(mask[y[inside], x[inside]]) < 0.5:
                found.append("most labelled parts lie outside of the annotated mask")
        if self.num_parts < _FEW_PARTS:
            found.append("few labelled parts")
        if self.overlap > _MUCH_OVERLAP:
            found.append("another person's box overlaps")
        return found


@dataclasses.dataclass(frozen=True)
class Group:
    """Persons of one kind.

    Attributes:
        kind: what they are grouped by.
        label: which of that kind.
        persons: how many.
        mean_iou: of their masks.
        unit: AP with scores 1.0, of these persons and their masks alone.
        own: AP with own scores.
    """

    kind: str
    label: str
    persons: int
    mean_iou: float
    unit: float
    own: float


_FEW_PARTS, _MUCH_OVERLAP = 4, 0.3  # of the first group of parts, and of the last of overlap
_Groups = tuple[tuple[str, float | int, float | int], ...]
# How persons are grouped: by what, and of each group its label, the lowest value, and the value from which on it ends.
KINDS: dict[str, tuple[Callable[[PersonMask], float | int], _Groups]] = {
    "root of the area, px": (
        lambda mask: mask.side,
        (
            ("0 to 32", 0, 32),
            ("32 to 48", 32, 48),
            ("48 to 96", 48, 96),
            ("96 and more", 96, math.inf),
        ),
    ),
    "labelled parts": (
        lambda mask: mask.num_parts,
        (
            ("1 to 3", 1, 4),
            ("4 to 7", 4, 8),
            ("8 to 11", 8, 12),
            ("12 to 14", 12, 15),
            ("15 to 17", 15, 18),
        ),
    ),
    "largest box IoU with another": (
        lambda mask: mask.overlap,
        (("0 to 0.1", 0, 0.1), ("0.1 to 0.3", 0.1, 0.3), ("0.3 and more", 0.3, math.inf)),
    ),
}


def person_masks(
    images: Sequence[coco.Image], results: Sequence[Mapping[str, Any]]
) -> list[PersonMask]:
    """Returns the masks of the annotated poses, in the order of the images.

    Args:
        images: that were evaluated.
        results: with `person_id`, the annotation whose pose was used, and the pose itself as `keypoints`.
    """
    by_person = {entry["person_id"]: entry for entry in results}
    ious = coco_protocol.person_ious(images, results)
    made = []
    for image in images:
        for person, overlap in zip(image.posed, coco.largest_overlaps(image), strict=True):
            if person.id in ious:
                entry = by_person[person.id]
                pose = coco.parse_keypoints(entry["keypoints"], f"the result of person {person.id}")
                mask, score = entry["segmentation"], entry["score"]
                made.append(
                    PersonMask(image, person, pose, mask, score, ious[person.id], float(overlap))
                )
    return made


def groups(masks: Sequence[PersonMask]) -> list[Group]:
    """Returns the groups of each kind that anybody belongs to."""
    made = []
    for kind, (value, limits) in KINDS.items():
        for label, low, high in limits:
            some = [mask for mask in masks if low <= value(mask) < high]
            if some:
                made.append(_group(kind, label, some))
    return made


def _group(kind: str, label: str, masks: Sequence[PersonMask]) -> Group:
    images = list({mask.image.id: mask.image for mask in masks}.values())
    truth = coco_protocol.ground_truth(images, members={mask.person.id for mask in masks})
    results = [
        {
            "image_id": mask.image.id,
            "category_id": truth["categories"][0]["id"],
            "segmentation": mask.segmentation,
            "score": mask.score,
        }
        for mask in masks
    ]
    unit, own = (
        coco_protocol.segmentation_metrics(truth, scored)["AP"]
        for scored in ([{**entry, "score": 1.0} for entry in results], results)
    )
    mean = float(np.mean([mask.iou for mask in masks]))
    return Group(kind, label, len(masks), mean, unit, own)
