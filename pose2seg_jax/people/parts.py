"""The 17 parts of COCO's persons: their names, their mirror images, how far annotators differ, and the limbs between them."""

import numpy as np

PART_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
NUM_PARTS = len(PART_NAMES)
FLIPPED_PARTS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)  # left <-> right
# How far annotators differ, as a share of the root of the person's area (COCO's OKS).
OKS_SIGMAS = np.asarray(
    [.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089],
    np.float32,
)  # fmt: skip
PERSON_CATEGORY = 1  # in COCO's files

Limbs = tuple[tuple[int, int], ...]

# The paper counts 11 limbs without naming them: arms, legs, the sides of the trunk, the shoulders.
PAPER_LIMBS: Limbs = (
    (5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (5, 11), (6, 12), (5, 6),
)  # fmt: skip
# All 19 links of COCO (authors' code, CVPR 2019 version).
COCO_LIMBS: Limbs = (
    (0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (5, 11), (6, 8), (6, 12),
    (7, 9), (8, 10), (11, 12), (11, 13), (12, 14), (13, 15), (14, 16),
)  # fmt: skip
