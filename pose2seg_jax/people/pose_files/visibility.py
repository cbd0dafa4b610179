"""What the third values of a file's parts mean: visibilities or scores. Decided once for the whole file."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pose2seg_jax.people.pose_files.content import PoseFileError
from pose2seg_jax.people.pose_files.numbers import NO_VALUE

_MISSING, _UNLABELLED = -1, 3  # third values that some files give to missing parts
_LARGEST_SCORE = 2.0  # estimators that read heatmaps go a little beyond 1
_LOWEST_PER_CENT = 10.0  # the largest score of a file in per cent is above it
_FLAG_SHARE = (
    0.5  # of values that are 0, 1 or 2: from here on the others are read as visibilities too
)


class Visibilities(NamedTuple):
    """The meaning of third values.

    Attributes:
        states: 0 (missing), 1 (hidden), 2 (visible), in the shape of the values.
        scores: in 0..1 or a little more, where the values are scores; NaN elsewhere.
        remark: what was decided, where it was not obvious.
    """

    states: np.ndarray
    scores: np.ndarray
    remark: str | None = None


def visibilities_from_scores(poses: np.ndarray, threshold: float) -> np.ndarray:
    """Returns poses (..., 17, 3) whose third value is a visibility, whatever it was before; see `decide`.

    Raises:
        PoseFileError: the third values are neither visibilities nor scores.
    """
    poses = np.asarray(poses)
    known = np.all(np.isfinite(poses), axis=-1) & np.any(poses[..., :2] != 0, axis=-1)
    found = decide(poses[..., 2], known, threshold)
    visible = np.concatenate([poses[..., :2], found.states[..., None].astype(poses.dtype)], axis=-1)
    return np.where(found.states[..., None] > 0, visible, 0)


def decide(
    values: np.ndarray,
    known: np.ndarray,
    threshold: float,
    meanings: Mapping[int, int] | None = None,
) -> Visibilities:
    """Decides what the third values of all parts of a file mean.

    0, 1 and 2 are visibilities; where no part is 2, as COCO asks of methods that do not predict visibility, 1 means
    visible. Where 3 marks parts without coordinates (AI Challenger), 1 and 2 are both visible. Values between 0 and 1
    are scores; up to 100, they are per cent. A part without a third value is visible.

    Args:
        values: the third values; `numbers.NO_VALUE` where the file has none.
        known: where the part has coordinates; elsewhere it is missing, whatever its value.
        threshold: of a score, from which on the part is visible.
        meanings: value -> visibility, where the format says it.

    Raises:
        PoseFileError: they are neither.
    """
    bare = known & (values == NO_VALUE)
    valued = known & ~bare & (values != _MISSING)
    if meanings is None and np.any(valued):
        meanings, remark = _meanings(values, valued, bool(np.any(values[~known] == _UNLABELLED)))
    else:
        meanings, remark = meanings or {}, None
    flags = valued & np.isin(values, list(meanings))
    states = np.where(bare, 2, 0)
    for value, state in meanings.items():
        states[flags & (values == value)] = state
    scores = np.full(values.shape, np.nan)
    others = valued & ~flags
    if np.any(others):
        scale, remark = _scale(values[others], bool(meanings), remark)
        scores[others] = values[others] * scale
        states[others & (scores >= threshold)] = 2
    return Visibilities(states, scores, remark)


def _meanings(
    values: np.ndarray, valued: np.ndarray, unlabelled: bool
) -> tuple[dict[int, int], str | None]:
    """What the values that are visibilities mean, and what is to be said; nothing where they are scores."""
    seen = values[valued]
    flags = np.isin(seen, (0, 1, 2))
    twos, ones = np.any(seen == 2), np.any(seen == 1)
    if np.all(flags) and unlabelled:
        text = "visibility 3 marks missing parts; 1 and 2 are both read as visible, since files with a 3 differ in which is hidden"
        return {0: 0, 1: 2, 2: 2}, text
    if np.all(seen == 0):
        return {0: 0}, None
    if np.all(flags) and ones and not twos:
        return {0: 0, 1: 2}, "no part has visibility 2, so 1 is read as visible"
    if twos and seen.max() <= 2 and flags.mean() >= _FLAG_SHARE:
        text = f"{int(np.sum(~flags))} visibilities are no 0, 1 or 2; they are read as scores"
        return {0: 0, 1: 1, 2: 2}, None if np.all(flags) else text
    if np.all(np.isin(seen, (0, 1, 2, _UNLABELLED))):
        raise PoseFileError(
            "parts have the visibility 3, which COCO does not know (0 missing, 1 hidden, 2 visible)"
        )
    return {}, None


def _scale(seen: np.ndarray, beside_flags: bool, remark: str | None) -> tuple[float, str | None]:
    """The factor from values to scores in 0..1, and what is to be said."""
    if seen.min() < 0:
        raise PoseFileError(
            f"a part has the third value {seen.min():g}, which is neither a visibility (0, 1, 2) nor a score (0 to 1)"
        )
    if seen.max() <= _LARGEST_SCORE:
        return 1.0, remark
    if _LOWEST_PER_CENT < seen.max() <= 100 and not beside_flags:
        return 0.01, f"part scores go up to {seen.max():g}, so they are read as per cent"
    raise PoseFileError(
        f"the third values of parts go up to {seen.max():g}; scores must be in 0 to 1, visibilities 0, 1 or 2"
    )
