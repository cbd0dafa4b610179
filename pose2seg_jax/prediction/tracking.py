"""Persons followed over the frames of a video, by their poses and masks."""

import dataclasses
from typing import Any

import numpy as np
import scipy  # its parts are loaded where they are used
from jaxtyping import Float, Int
from pycocotools import mask as mask_utils

from pose2seg_jax.people.pose_files.duplicates import box_areas, similarity

_LEAST_ALIKE = 0.15  # mean of OKS and mask IoU: below, it is another person
_LONGEST_GAP = 30  # frames without a person, after which it is another one who comes back
_SMOOTHING = 0.6  # share of the old speed that a new one leaves


@dataclasses.dataclass
class _Track:
    """A person who was seen.

    Attributes:
        id: of the person.
        pose: (17, 3) where it was seen last.
        rle: the mask there.
        area: of the box of its pose, the largest so far: who comes into the picture shows a few parts first.
        speed: (2,) pixels a frame; of the whole body, since single parts swing.
        frame: when it was seen last.
    """

    id: int
    pose: np.ndarray
    rle: Any
    area: float
    speed: np.ndarray
    frame: int

    def pose_at(self, frame: int) -> np.ndarray:
        """The pose, moved on with the speed."""
        moved = self.pose.copy()
        moved[:, :2] += self.speed * (frame - self.frame)
        return moved


class Tracker:
    """Gives each person of a video a number that stays the same from frame to frame.

    A person is the one of the frames before whose pose, moved on with its speed, and whose mask are most alike: the mean of
    COCO's object keypoint similarity (OKS) and of the masks' IoU, assigned so that its sum is the highest (Hungarian
    algorithm). The speed carries two people who cross past each other; who is away for more than 30 frames gets a new number.
    """

    def __init__(self) -> None:
        """Knows nobody yet."""
        self._tracks: list[_Track] = []
        self._frame = -1
        self._next_id = 1

    def update(self, poses: Float[np.ndarray, "P 17 3"], rles: Any) -> Int[np.ndarray, " P"]:
        """Takes the persons of the next frame.

        Args:
            poses: of the persons, with visibilities.
            rles: (P) their masks as COCO's compressed RLE.

        Returns:
            Their numbers, from 1 on.
        """
        self._frame += 1
        self._tracks = [t for t in self._tracks if self._frame - t.frame <= _LONGEST_GAP]
        poses = np.asarray(poses, np.float64)
        ids = np.zeros(len(poses), int)
        alike = self._alike(poses, rles)
        rows, columns = scipy.optimize.linear_sum_assignment(alike, maximize=True)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if alike[row, column] >= _LEAST_ALIKE:
                self._go_on(self._tracks[row], poses[column], rles[column])
                ids[column] = self._tracks[row].id
        for column in np.flatnonzero(ids == 0).tolist():
            ids[column] = self._next_id
            self._next_id += 1
            area = float(box_areas(poses[column][None])[0])
            new = _Track(int(ids[column]), poses[column], rles[column], area, np.zeros(2), self._frame)  # fmt: skip
            self._tracks.append(new)
        return ids

    def _alike(self, poses: np.ndarray, rles: Any) -> np.ndarray:
        """(T, P) how alike each track is to each person."""
        if not self._tracks or not len(poses):
            return np.zeros((len(self._tracks), len(poses)))
        before = np.stack([track.pose_at(self._frame) for track in self._tracks])
        areas = np.concatenate([[track.area for track in self._tracks], box_areas(poses)])
        every = np.concatenate([before, poses])
        by_pose = similarity(every, areas, fewest=1, share=0.0)[: len(before), len(before) :]
        masks = [track.rle for track in self._tracks]
        by_mask = np.asarray(mask_utils.iou(list(rles), masks, [0] * len(masks))).T
        return (by_pose + by_mask) / 2

    def _go_on(self, track: _Track, pose: np.ndarray, rle: Any) -> None:
        both = (track.pose[:, 2] > 0) & (pose[:, 2] > 0)
        if both.any():
            moved = np.median(pose[both, :2] - track.pose[both, :2], axis=0)
            speed = moved / (self._frame - track.frame)
            track.speed = _SMOOTHING * track.speed + (1 - _SMOOTHING) * speed
        track.area = max(track.area, float(box_areas(pose[None])[0]))
        track.pose, track.rle, track.frame = pose, rle, self._frame
