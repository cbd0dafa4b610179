"""Skeletons of other data sets and programs, and where COCO's 17 parts are in each.

A pose file may name its parts; then the names decide. Without names the number of parts decides, where only one
skeleton has it. A skeleton that the user names decides always.
"""

import logging
import re
from collections.abc import Sequence
from typing import Any

from pose2seg_jax.errors import UserError
from pose2seg_jax.people.parts import PART_NAMES


class SkeletonError(UserError):
    """Parts that cannot be mapped to COCO's 17; the message lists what is known."""


def _sided(*names: str) -> tuple[str, ...]:
    """Each name for the left and for the right, in turns."""
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


def _side(side: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names)


_ARM, _LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")
_FACE = ("right_eye", "left_eye", "right_ear", "left_ear")
_LEFT_FOOT, _RIGHT_FOOT = (_side(s, "big_toe", "small_toe", "heel") for s in ("left", "right"))
_TRUNK_18 = ("nose", "neck", *_side("right", *_ARM), *_side("left", *_ARM))
_AI_CHALLENGER = tuple(part for limb in (_ARM, _LEG) for s in ("right", "left") for part in _side(s, *limb))  # fmt: skip
_HALPE_26 = (*PART_NAMES, "head", "neck", "mid_hip", *_sided("big_toe", "small_toe", "heel"))
_HANDS_AND_FACE = ("face",) * 68 + ("left_hand",) * 21 + ("right_hand",) * 21

# Name -> parts, in order. Of several with as many parts, the first is what a file without names is taken for.
# Sources: the data sets' own papers and pages; OpenPose's output.md; MediaPipe's guide.
SKELETONS: dict[str, tuple[str, ...]] = {
    "coco": PART_NAMES,
    "coco_wholebody": (*PART_NAMES, *_LEFT_FOOT, *_RIGHT_FOOT, *_HANDS_AND_FACE),
    "halpe26": _HALPE_26,
    "halpe136": (*_HALPE_26, *_HANDS_AND_FACE),
    "crowdpose": (*_sided(*_ARM, *_LEG), "head_top", "neck"),
    "ai_challenger": (*_AI_CHALLENGER, "head_top", "neck"),
    "mpii": (
        *_side("right", *reversed(_LEG)), *_side("left", *_LEG), "pelvis", "thorax", "upper_neck", "head_top",
        *_side("right", *reversed(_ARM)), *_side("left", *_ARM),
    ),
    "body_25": (
        *_TRUNK_18, "mid_hip", *_side("right", *_LEG), *_side("left", *_LEG), *_FACE, *_LEFT_FOOT, *_RIGHT_FOOT,
    ),
    "openpose_18": (*_TRUNK_18, *_side("right", *_LEG), *_side("left", *_LEG), *_FACE),
    "h36m": (
        "root", *_side("right", *_LEG), *_side("left", *_LEG), "spine", "thorax", "neck_base", "head",
        *_side("left", *_ARM), *_side("right", *_ARM),
    ),
    "posetrack": ("nose", "head_bottom", "head_top", *PART_NAMES[3:]),
    "ochuman": (
        *_AI_CHALLENGER, "head", "neck", "right_ear", "left_ear", "nose", "right_eye", "left_eye",
    ),
    "blazepose": (
        "nose", *_side("left", "eye_inner", "eye", "eye_outer"), *_side("right", "eye_inner", "eye", "eye_outer"),
        *_sided("ear", "mouth", *_ARM, "pinky", "index", "thumb", *_LEG, "heel", "foot_index"),
    ),
}  # fmt: skip

_PARTS = {
    **{part: part for part in ("nose", "eye", "ear", *_ARM, *_LEG)},
    "sho": "shoulder", "elb": "elbow", "wri": "wrist", "ank": "ankle",
}  # fmt: skip
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_QUALIFIERS = frozenset({"tip", "center", "centre", "joint"})
# Words in the names of parts that COCO does not have.
_OTHER_WORDS = frozenset({
    "neck", "head", "thorax", "pelvis", "root", "spine", "torso", "chest", "trunk", "body",
    "abdomen", "belly", "navel", "sternum", "clavicle", "collar", "crown", "forehead", "face",
    "hand", "thumb", "index", "forefinger", "middle", "ring", "pinky", "finger", "palm", "foot",
    "toe", "heel", "mouth", "lip", "eyebrow", "brow", "jaw", "chin", "cheek", "top", "bottom",
    "upper", "lower", "base", "mid", "center", "centre", "big", "small", "little", "tip",
    "inner", "outer", "hips", "shoulders", "bg", "background", "midhip", "midhips", "headtop",
    "tophead", "bigtoe", "smalltoe",
})  # fmt: skip


def columns_by_names(names: Sequence[str]) -> tuple[int, ...]:
    """Returns where each of COCO's 17 parts is among named parts; -1 where it is not.

    Case, separators and the order of the words do not matter: "Left Shoulder", "shoulder_l" and "LShoulder" are the
    same part. A foot is an ankle where there are no ankles (Human3.6M).

    Raises:
        SkeletonError: a name is unknown, two mean the same part, or nearly none is one of COCO's.
    """
    parts = [_part(name) for name in names]
    unknown = [name for name, part in zip(names, parts, strict=True) if part is None]
    if unknown:
        raise SkeletonError(
            f"the parts {', '.join(map(repr, unknown[:5]))}{', ...' if len(unknown) > 5 else ''} are not known; expected"
            f" names such as {', '.join(PART_NAMES[:1] + PART_NAMES[5:7])}."
        )
    if not {"left_ankle", "right_ankle"} & set(parts):
        parts = [{"left_foot": "left_ankle", "right_foot": "right_ankle"}.get(p or "", p) for p in parts]  # fmt: skip
    twice = [part for part in PART_NAMES if parts.count(part) > 1]
    if twice:
        raise SkeletonError(f"the part {twice[0]} is named more than once.")
    columns = tuple(parts.index(part) if part in parts else -1 for part in PART_NAMES)
    if sum(column >= 0 for column in columns) < 2:
        raise SkeletonError(f"of COCO's 17 parts, {', '.join(names[:5])}, ... holds fewer than two.")  # fmt: skip
    return columns


def parts_of(name: str) -> tuple[str, ...]:
    """Returns the parts of a skeleton of SKELETONS.

    Raises:
        SkeletonError: there is no skeleton of this name.
    """
    known = SKELETONS.get(name.lower().replace("-", "_"))
    if known is None:
        raise SkeletonError(f"no skeleton is called {name!r}; known: {', '.join(SKELETONS)}.")
    return known


def has_length(count: int) -> bool:
    """Returns whether a known skeleton has so many parts."""
    return any(len(parts) == count for parts in SKELETONS.values())


def parts_by_length(count: int, path: Any) -> tuple[str, ...]:
    """Returns the parts of the skeleton of so many parts; a warning says which, where several have as many.

    Args:
        count: of the parts of a person.
        path: of the file, for messages.

    Raises:
        SkeletonError: none has as many.
    """
    names = [name for name, parts in SKELETONS.items() if len(parts) == count]
    if not names:
        lengths = ", ".join(f"{len(parts)} ({name})" for name, parts in SKELETONS.items())
        raise SkeletonError(
            f"persons have {count} parts, as no known skeleton has; known: {lengths}. Other parts need names"
            " (categories[].keypoints)."
        )
    if names[1:] and names[0] != "coco":
        logging.warning(
            "%s: %d parts a person are read as %s; others with as many: %s (--skeleton=NAME).",
            path, count, names[0], ", ".join(names[1:]),
        )  # fmt: skip
    return SKELETONS[names[0]]


def _part(name: str) -> str | None:
    """The part in our spelling; "other" where COCO has none, None where the name is not known."""
    words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    if len(words) == 1 and words[0][:1] in "lr" and words[0][1:] in _PARTS:  # "lshoulder"
        words = [words[0][0], words[0][1:]]
    for side in ("left", "right"):  # "leftshoulder"
        if len(words) == 1 and words[0].startswith(side) and words[0].removeprefix(side):
            words = [side, words[0].removeprefix(side)]
    sides = [_SIDES[word] for word in words if word in _SIDES]
    rest = [word for word in words if word not in _SIDES]
    if len(rest) > 1 and _PARTS.keys() & set(rest):  # "nose_tip"
        rest = [word for word in rest if word not in _QUALIFIERS]
    if len(rest) == 1 and rest[0] in _PARTS and len(sides) == (rest[0] != "nose"):
        return "_".join([*sides, _PARTS[rest[0]]])
    if sides and rest == ["foot"]:
        return f"{sides[0]}_foot"
    known = rest and all(word in _OTHER_WORDS or word in _PARTS for word in rest)
    return "other" if known else None
