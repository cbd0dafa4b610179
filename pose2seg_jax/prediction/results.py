"""`Result`: the predicted persons of an image."""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
import scipy  # its parts are loaded where they are used
from jaxtyping import Bool, Float, Int, UInt8, UInt16
from pycocotools import mask as mask_utils

from pose2seg_jax import paths
from pose2seg_jax.alignment import affine_align
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import coco, masks, polygons
from pose2seg_jax.people.parts import NUM_PARTS, PERSON_CATEGORY
from pose2seg_jax.people.pose_files.duplicates import SAME_PERSON_OKS, similarity
from pose2seg_jax.pictures import overlays
from pose2seg_jax.prediction.inputs import InputError, image_array
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
        poses: (P, 17, 3) x, y and visibility, as they were given or estimated.
    """

    size: tuple[int, int]
    rles: tuple[dict[str, Any], ...]
    mask_scores: Float[np.ndarray, " P"]
    pose_scores: Float[np.ndarray, " P"]
    template: Int[np.ndarray, " P"]
    poses: Float[np.ndarray, "P 17 3"]

    def __post_init__(self):
        """Checks that the parts belong together.

        Raises:
            ValueError: they do not.
        """
        count = len(self.rles)
        for name in ("mask_scores", "pose_scores", "template", "poses"):
            if getattr(self, name).shape[:1] != (count,):
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
        nobody = np.zeros((0, NUM_PARTS, 3), np.float32)
        return cls((height, width), (), np.zeros(0), np.zeros(0), np.zeros(0, int), nobody)

    @classmethod
    def from_rois(
        cls,
        rois: RoiPrediction,
        size: tuple[int, int],
        poses: np.ndarray,
        pose_scores: Any = None,
        *,
        exclusive: bool = False,
        threshold: float = masks.THRESHOLD,
    ) -> "Result":
        """Takes what the network says of the persons of one image to that image, on the host.

        Args:
            rois: of the persons.
            size: (height, width) of the image.
            poses: (P, 17, 3) of the persons.
            pose_scores: (P,), see above; None for ones.
            exclusive: whether a pixel belongs to one person at most, the one whose probability is highest. Poses that are the
                same person's by COCO's OKS share its pixels.
            threshold: of the mask probability. Mask scores are those of 0.5.

        Raises:
            ValueError: scores of another number of persons, or not numbers of 0 or more.
        """
        probabilities, matrices = np.asarray(rois.probabilities), np.asarray(rois.alignment.matrix)
        known = np.ones(len(poses)) if pose_scores is None else np.asarray(pose_scores, np.float64)
        exclusive = exclusive and len(poses) > 1
        if exclusive:
            alike = similarity(poses) > SAME_PERSON_OKS
            _, bodies = scipy.sparse.csgraph.connected_components(alike)
            sure = np.maximum(
                known, 1e-6
            )  # who has score 0 takes nothing from others, but keeps the rest
            rles = masks.encode_exclusive_masks(
                probabilities, matrices, *size, bodies, sure, threshold
            )
        else:
            rles = [
                masks.encode_mask(p, m, *size, threshold)
                for p, m in zip(probabilities, matrices, strict=True)
            ]
        mask_scores = np.asarray(rois.scores, np.float64)
        if exclusive:  # who has lost every pixel to others has an empty mask
            mask_scores = np.where(mask_utils.area(rles) > 0, mask_scores, 0)
        template = np.asarray(rois.alignment.template)
        return cls(size, tuple(rles), mask_scores, known, template, poses)

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
        self, image_id: Any, person_ids: Sequence[Any] | np.ndarray | None = None
    ) -> list[dict[str, Any]]:
        """Returns the entries of a COCO results file, with masks and keypoints, ready for `json.dump`.

        `score` is the own score, the product of `mask_score` and `pose_score`.

        Args:
            image_id: of the image; a number or text, also a number of NumPy.
            person_ids: ids of the annotated persons whose poses these were, where there are such.
        """
        entries = []
        for index, rle in enumerate(self.rles):
            entry: dict[str, Any] = {
                "image_id": _plain(image_id),
                "category_id": PERSON_CATEGORY,
                "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode()},
                "score": float(self.scores[index]),
                "mask_score": float(self.mask_scores[index]),
                "pose_score": float(self.pose_scores[index]),
                "template": int(self.template[index]),
                "keypoints": coco.format_keypoints(self.poses[index]),
            }
            if person_ids is not None:
                entry["person_id"] = _plain(person_ids[index])
            entries.append(entry)
        return entries

    def to_polygons(self) -> list[list[Float[np.ndarray, "V 2"]]]:
        """Returns the outlines (x, y) of each mask, see `polygons.polygons`. Holes are filled."""
        return [polygons.polygons(rle) for rle in self.rles]

    def to_supervision(self) -> Any:
        """Returns the persons as `supervision.Detections`, with boxes, masks and own scores.

        Raises:
            UserError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise UserError("to_supervision needs supervision: pip install supervision.") from None
        boxes = self.boxes.reshape(-1, 4).astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]  # corners
        return supervision.Detections(
            xyxy=boxes,
            mask=self.masks,
            confidence=self.scores.astype(np.float32),
            class_id=np.zeros(len(self), int),
            data={"class_name": np.full(len(self), "person")},
        )

    def overlay(self, image: Any, *, poses: bool = True) -> UInt8[np.ndarray, "H W 3"]:
        """Returns the image with the masks and the poses drawn over it.

        Args:
            image: that was predicted, in any form that the predictor takes.
            poses: whether the poses are drawn.

        Raises:
            InputError: the image has another size.
        """
        return overlays.overlay(self._pixels(image), self.rles, self.poses if poses else ())

    def label_map(self) -> UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"]:
        """Returns an image of numbers: 0 where nobody is, 1 for the first person, 2 for the second.

        Where masks overlap, the person with the higher own score is in front; see `exclusive` of the predictor. It has 8
        bits for up to 255 persons, and 16 for more.
        """
        labels = np.zeros(self.size, np.uint8 if len(self) < 256 else np.uint16)
        for index in np.argsort(self.scores, kind="stable").tolist():
            labels[mask_utils.decode(self.rles[index]).view(bool)] = index + 1
        return labels

    def cut_outs(self, image: Any) -> list[UInt8[np.ndarray, "h w 4"]]:
        """Returns each person cut out of the image, in their box, as RGBA; nothing of an empty mask, (0, 0, 4).

        Args:
            image: that was predicted, in any form that the predictor takes.

        Raises:
            InputError: the image has another size.
        """
        pixels = self._pixels(image)
        found = []
        for rle, box in zip(self.rles, self.boxes.astype(int).tolist(), strict=True):
            x, y, width, height = box
            alpha = 255 * mask_utils.decode(rle)[y : y + height, x : x + width, None]
            found.append(np.concatenate([pixels[y : y + height, x : x + width], alpha], axis=2))
        return found

    def save(self, path: str | os.PathLike, image_id: Any = None) -> None:
        """Writes the persons as a file, which kind its name says.

        `.json`: a COCO results file. `.png`: the label map. `.npz`: `masks` (P, H, W), `boxes`, `scores`.

        Args:
            path: of the file.
            image_id: of the image in a COCO results file; by default the file's name without its suffix.

        Raises:
            UserError: the name ends otherwise, or the file cannot be written.
        """
        suffix = pathlib.PurePath(path).suffix.lower()
        buffer = io.BytesIO()
        if suffix == ".json":
            known = pathlib.PurePath(path).stem if image_id is None else image_id
            buffer.write(json.dumps(self.to_coco(known)).encode())
        elif suffix == ".png":
            PIL.Image.fromarray(self.label_map()).save(buffer, "PNG")
        elif suffix == ".npz":
            np.savez_compressed(buffer, masks=self.masks, boxes=self.boxes, scores=self.scores)
        else:
            raise UserError(f"{path}: a result is saved as .json, .png or .npz.")
        paths.write_atomically(path, buffer.getvalue())

    def _pixels(self, image: Any) -> np.ndarray:
        """The image as the predictor takes it, of the size of the masks."""
        pixels = image_array(image)
        if pixels.shape[:2] != tuple(self.size):
            raise InputError(
                f"masks of an image of {self.size}, but the image is {pixels.shape}; give the image that was predicted."
            )
        return pixels


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's own; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value
