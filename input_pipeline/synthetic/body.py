"""One articulated body: proportions, joint limits, poses, and where that puts its parts in space.

Metres; x is the person's left, y up, z the direction of the face. Segment lengths are shares of the
stature: Drillis and Contini (1966), as printed in Winter, Biomechanics and Motor Control of Human
Movement, figure 4.1. Joint limits follow the ranges of motion of the American Academy of Orthopaedic
Surgeons, rounded. Girths, which the table does not have, are ours.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from pose2seg_jax.people.parts import PART_NAMES

# Shares of the stature.
UPPER_ARM, FOREARM, HAND = 0.186, 0.146, 0.108
THIGH, SHANK, FOOT, FOOT_HEIGHT = 0.245, 0.246, 0.152, 0.039
TRUNK, NECK, HEAD = 0.288, 0.052, 0.130  # hip to shoulder height, to the chin, to the top
SHOULDER, HIP = 0.259 / 2, 0.191 / 2  # from the middle; joints lie inside of the outline
_JOINT_INSET = 0.8

# Degrees. Flexion is forward (knee: backward), abduction away from the body, twist outward.
LIMITS = {
    "spine_flexion": (-20, 60), "spine_side": (-30, 30), "spine_twist": (-40, 40),
    "neck_flexion": (-40, 40), "neck_side": (-30, 30), "neck_twist": (-60, 60),
    "shoulder_flexion": (-40, 170), "shoulder_abduction": (-10, 170), "shoulder_twist": (-70, 80),
    "elbow_flexion": (0, 145),
    "hip_flexion": (-15, 115), "hip_abduction": (-15, 45), "hip_twist": (-40, 40),
    "knee_flexion": (0, 140),
    "ankle_flexion": (-20, 40),
}  # fmt: skip
_NEUTRAL = {
    "spine_flexion": (4, 6), "spine_side": (0, 6), "spine_twist": (0, 10),
    "neck_flexion": (4, 12), "neck_side": (0, 8), "neck_twist": (0, 25),
    "shoulder_flexion": (8, 22), "shoulder_abduction": (10, 10), "shoulder_twist": (0, 30),
    "elbow_flexion": (25, 28),
    "hip_flexion": (3, 7), "hip_abduction": (5, 5), "hip_twist": (5, 12),
    "knee_flexion": (6, 7), "ankle_flexion": (0, 5),
}  # fmt: skip
# What differs from neutral: joint -> mean and spread in degrees.
FAMILIES = {
    "standing": {},
    "walking": {"hip_flexion": (8, 22), "knee_flexion": (25, 22), "shoulder_flexion": (5, 28)},
    "sitting": {
        "hip_flexion": (85, 12), "knee_flexion": (85, 20), "hip_abduction": (12, 10),
        "spine_flexion": (12, 12), "shoulder_flexion": (35, 25), "elbow_flexion": (60, 30),
    },
    "reaching": {
        "shoulder_flexion": (110, 45), "shoulder_abduction": (35, 40), "elbow_flexion": (25, 25),
        "spine_side": (0, 15),
    },
    "crouching": {
        "hip_flexion": (100, 12), "knee_flexion": (115, 18), "spine_flexion": (30, 15),
        "shoulder_flexion": (50, 30), "elbow_flexion": (60, 35), "hip_abduction": (18, 12),
    },
    "jumping": {
        "hip_abduction": (25, 12), "hip_flexion": (25, 25), "knee_flexion": (45, 35),
        "shoulder_abduction": (100, 45), "elbow_flexion": (25, 25),
    },
    "lying": {
        "hip_flexion": (25, 25), "knee_flexion": (40, 35), "shoulder_flexion": (40, 50),
        "shoulder_abduction": (40, 40), "elbow_flexion": (50, 40),
    },
    "upside_down": {
        "shoulder_flexion": (160, 10), "shoulder_abduction": (5, 8), "elbow_flexion": (10, 10),
        "hip_flexion": (0, 25), "hip_abduction": (20, 15), "knee_flexion": (25, 30),
    },
}  # fmt: skip
FAMILY_SHARES = {
    "standing": 0.26, "walking": 0.18, "sitting": 0.16, "reaching": 0.14, "crouching": 0.08,
    "jumping": 0.08, "lying": 0.06, "upside_down": 0.04,
}  # fmt: skip


class Capsule(NamedTuple):
    """A tapered limb: two end points, a radius at each, and the name of its material."""

    start: np.ndarray
    end: np.ndarray
    start_radius: float
    end_radius: float
    material: str


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """A posed body.

    Attributes:
        family: of its pose, a key of FAMILIES.
        parts: (17, 3) positions of COCO's parts.
        depths: (17,) how deep a part lies below the skin.
        capsules: what it is made of.
        face: (3,) unit vector out of the face.
    """

    family: str
    parts: np.ndarray
    depths: np.ndarray
    capsules: tuple[Capsule, ...]
    face: np.ndarray

    def placed(self, rotation: np.ndarray, offset: np.ndarray) -> "Body":
        """Turned by `rotation` (3, 3), then moved by `offset` (3,)."""

        def move(point):
            return point @ rotation.T + offset

        capsules = tuple(c._replace(start=move(c.start), end=move(c.end)) for c in self.capsules)
        return dataclasses.replace(
            self, parts=move(self.parts), capsules=capsules, face=rotation @ self.face
        )


def sample_angles(rng: np.random.Generator, family: str) -> dict[str, float]:
    """Joint angles in degrees within LIMITS; paired joints as left_... and right_..."""
    angles = {}
    for joint, limits in LIMITS.items():
        mean, spread = FAMILIES[family].get(joint, _NEUTRAL[joint])
        paired = not joint.startswith(("spine", "neck"))
        for side in ("left_", "right_") if paired else ("",):
            angles[side + joint] = float(np.clip(rng.normal(mean, spread), *limits))
    if family == "walking":  # arms and legs swing against each other
        swing = abs(rng.normal(18, 8))
        for side, sign in (("left_", 1), ("right_", -1)):
            for joint, share in (("hip_flexion", sign), ("shoulder_flexion", -sign)):
                value = angles[side + joint] + share * swing
                angles[side + joint] = float(np.clip(value, *LIMITS[joint]))
    return angles


def sample_body(rng: np.random.Generator, family: str | None = None) -> Body:
    """A random person in a random pose, upright at the origin, the lowest point at y = 0."""
    if family is None:
        family = str(rng.choice(list(FAMILY_SHARES), p=list(FAMILY_SHARES.values())))
    grown = rng.random() < 0.85
    stature = rng.normal(1.70, 0.10) if grown else rng.uniform(0.95, 1.45)
    girth = float(np.exp(rng.normal(0, 0.16))) * (1.0 if grown else 1.12)
    body = pose_body(
        sample_angles(rng, family),
        stature=float(np.clip(stature, 0.9, 2.05)),
        girth=float(np.clip(girth, 0.7, 1.6)),
        head=1.0 if grown else 1.25,
        loose=float(rng.uniform(0, 0.35)),
        skirt=float(rng.uniform(0.12, 0.36)) if rng.random() < 0.22 else 0.0,
        hair=float(rng.uniform(0, 0.25)) if rng.random() < 0.45 else 0.0,
        family=family,
    )
    tilt = {"lying": 90.0, "upside_down": 180.0}.get(family, 0.0)
    turn = Rotation.from_euler(
        "yx", [rng.uniform(0, 360) if tilt == 90 else 0, -tilt], degrees=True
    )
    sway = Rotation.from_euler("xz", rng.normal(0, 4, 2), degrees=True)
    rotation = (sway * turn).as_matrix()
    body = body.placed(rotation, np.zeros(3))
    lowest = min(min(c.start[1] - c.start_radius, c.end[1] - c.end_radius) for c in body.capsules)
    lift = rng.uniform(0.05, 0.5) if family == "jumping" else 0.0
    return body.placed(np.eye(3), np.asarray([0, lift - lowest, 0]))


def pose_body(
    angles: dict[str, float],
    *,
    stature: float,
    girth: float = 1.0,
    head: float = 1.0,
    loose: float = 0.0,
    skirt: float = 0.0,
    hair: float = 0.0,
    family: str = "standing",
) -> Body:
    """Forward kinematics.

    Args:
        angles: as from `sample_angles`.
        stature: height of the upright body in metres.
        girth: factor of all radii.
        head: factor of the head's size (children's are larger).
        loose: how far the clothes stand off, as a share of the limb's radius.
        skirt: length of a skirt as a share of the stature; 0 for none.
        hair: how far the hair falls below the head, as a share of the stature.
        family: recorded in the result.
    """
    up, down, front = np.eye(3)[1], -np.eye(3)[1], np.eye(3)[2]

    def turn(axes, *degrees):
        return Rotation.from_euler(axes, degrees, degrees=True).as_matrix()

    s = stature
    half = turn(
        "XZY", angles["spine_flexion"] / 2, angles["spine_side"] / 2, angles["spine_twist"] / 2
    )
    pelvis = np.zeros(3)
    waist = pelvis + half @ (up * TRUNK * s / 2)
    chest = half @ half
    neck = waist + chest @ (up * TRUNK * s / 2)
    skull = chest @ turn("XZY", angles["neck_flexion"], angles["neck_side"], angles["neck_twist"])
    chin = neck + skull @ (up * NECK * s)
    size = HEAD * s * head
    middle = chin + skull @ (up * size * 0.5 + front * 0.1 * size)

    points = {
        "nose": middle + skull @ np.array([0, -0.08, 0.42]) * size,
        "left_eye": middle + skull @ np.array([0.14, 0.08, 0.36]) * size,
        "right_eye": middle + skull @ np.array([-0.14, 0.08, 0.36]) * size,
        "left_ear": middle + skull @ np.array([0.35, 0.0, -0.03]) * size,
        "right_ear": middle + skull @ np.array([-0.35, 0.0, -0.03]) * size,
    }
    cloth = girth * (1 + loose)
    capsules = [
        Capsule(neck - chest @ up * 0.02 * s, chin, 0.036 * s * girth, 0.033 * s * girth, "skin"),
        Capsule(
            middle - skull @ up * size * 0.16, middle + skull @ up * size * 0.12,
            0.31 * size, 0.37 * size, "head",
        ),
    ]  # fmt: skip
    if hair:
        back = middle + skull @ np.array([0, 0.1, -0.14]) * size
        fall = back + skull @ (down * hair * s) - skull @ front * 0.02 * s
        capsules.append(Capsule(back, fall, 0.36 * size, 0.22 * size, "hair"))
    hips, shoulders = {}, {}
    for side, sign in (("left", 1), ("right", -1)):
        shoulder = neck + chest @ np.array([sign * SHOULDER * _JOINT_INSET, -0.01, 0]) * s
        arm = chest @ turn(
            "ZXY",
            sign * angles[f"{side}_shoulder_abduction"],
            -angles[f"{side}_shoulder_flexion"],
            sign * angles[f"{side}_shoulder_twist"],
        )
        elbow = shoulder + arm @ down * UPPER_ARM * s
        lower = arm @ turn("X", -angles[f"{side}_elbow_flexion"])
        wrist = elbow + lower @ down * FOREARM * s
        tip = wrist + lower @ down * HAND * 0.75 * s
        hip = pelvis + np.array([sign * HIP * _JOINT_INSET, -0.01, 0]) * s
        leg = turn(
            "ZXY",
            sign * angles[f"{side}_hip_abduction"],
            -angles[f"{side}_hip_flexion"],
            sign * angles[f"{side}_hip_twist"],
        )
        knee = hip + leg @ down * THIGH * s
        shin = leg @ turn("X", angles[f"{side}_knee_flexion"])
        ankle = knee + shin @ down * SHANK * s
        foot = shin @ turn("X", angles[f"{side}_ankle_flexion"])
        heel = ankle + foot @ (down * FOOT_HEIGHT * 0.6 - front * 0.03) * s
        toe = heel + foot @ (front * FOOT * 0.85 - up * 0.005) * s
        names = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        places = (shoulder, elbow, wrist, hip, knee, ankle)
        for name, place in zip(names, places, strict=True):
            points[f"{side}_{name}"] = place
        hips[side], shoulders[side] = hip, shoulder
        capsules += [
            Capsule(shoulder, elbow, 0.035 * s * cloth, 0.027 * s * cloth, "sleeve"),
            Capsule(elbow, wrist, 0.026 * s * girth, 0.018 * s * girth, "forearm"),
            Capsule(wrist, tip, 0.020 * s * girth, 0.016 * s * girth, "skin"),
            Capsule(hip, knee, 0.054 * s * cloth, 0.037 * s * cloth, "trousers"),
            Capsule(knee, ankle, 0.036 * s * cloth, 0.024 * s * cloth, "shank"),
            Capsule(heel, toe, 0.026 * s, 0.020 * s, "shoe"),
            Capsule(shoulder + (neck - shoulder) * 0.35 - chest @ up * 0.03 * s, hip + half @ up * 0.05 * s,
                    0.056 * s * cloth, 0.056 * s * cloth, "shirt"),
        ]  # fmt: skip
    belly = waist + half @ front * 0.01 * s * girth**2
    capsules += [
        Capsule(shoulders["left"], shoulders["right"], 0.042 * s * cloth, 0.042 * s * cloth, "shirt"),
        Capsule(hips["left"], hips["right"], 0.056 * s * cloth, 0.056 * s * cloth, "trousers"),
        Capsule(neck - chest @ up * 0.07 * s, belly, 0.068 * s * cloth, 0.066 * s * girth * cloth, "shirt"),
        Capsule(belly, pelvis, 0.066 * s * girth * cloth, 0.07 * s * cloth, "shirt"),
    ]  # fmt: skip
    if skirt:
        knees = (points["left_knee"] + points["right_knee"]) / 2
        fall = knees - pelvis
        hem = pelvis + fall / max(np.linalg.norm(fall), 1e-6) * skirt * s
        for side in ("left", "right"):
            reach = (points[f"{side}_knee"] - hips[side]) / (THIGH * s)
            end = hips[side] + reach * skirt * s
            capsules.append(Capsule(hips[side], end, 0.06 * s * cloth, 0.075 * s * cloth, "skirt"))
        capsules.append(Capsule(pelvis, hem, 0.075 * s * cloth, 0.10 * s * cloth, "skirt"))
    radii = {"shoulder": 0.045, "elbow": 0.03, "wrist": 0.022, "hip": 0.075, "knee": 0.04, "ankle": 0.03}  # fmt: skip
    depths = [radii.get(name.split("_")[-1], 0.012) * s * cloth for name in PART_NAMES]
    return Body(
        family,
        np.stack([points[name] for name in PART_NAMES]),
        np.asarray(depths),
        tuple(capsules),
        skull @ front,
    )
