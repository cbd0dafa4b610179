"""What the third values of a file's parts mean: visibilities or scores. Decided once for the whole file."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pose2seg_jax.people.pose_files.content import PoseFileError

_LARGEST_SCORE = 2.0  # estimators that read heatmaps go a little beyond 1
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
    are scores; up to 100, they are per cent.

    Args:
        values: the third values.
        known: where the part has coordinates; elsewhere it is missing, whatever its value.
        threshold: of a score, from which on the part is visible.
        meanings: value -> visibility, where the format says it.

    Raises:
        PoseFileError: they are neither.
    """
    seen = values[known]
    nothing = np.full(values.shape, np.nan)
    if meanings is not None:
        _check(seen, meanings)
        return Visibilities(_mapped(values, known, meanings), nothing)
    if known.any() and seen.min() < 0:
        lowest = seen.min()
        if np.all(seen[seen < 0] == -1):  # the mark of a missing part in some files
            return decide(values, known & (values >= 0), threshold)
        raise PoseFileError(
            f"a part has the third value {lowest:g}, which is neither a visibility (0, 1, 2) nor a score (0 to 1)"
        )
    flags = np.isin(seen, (0, 1, 2))
    all_values = values[np.isfinite(values)]
    if np.all(flags):
        if np.any(all_values == 3) and np.all(np.isin(all_values, (0, 1, 2, 3))):
            text = "visibility 3 marks missing parts; 1 and 2 are both read as visible, since files with a 3 differ in which is hidden"
            return Visibilities(_mapped(values, known, {0: 0, 1: 2, 2: 2}), nothing, text)
        if np.any(seen == 2) or not np.any(seen == 1):
            return Visibilities(_mapped(values, known, {0: 0, 1: 1, 2: 2}), nothing)
        return Visibilities(
            _mapped(values, known, {0: 0, 1: 2}),
            nothing,
            "no part has visibility 2, so 1 is read as visible",
        )
    if np.any(seen == 2) and flags.mean() >= _FLAG_SHARE and seen.max() <= 2:
        states = _mapped(values, known & np.isin(values, (0, 1, 2)), {0: 0, 1: 1, 2: 2})
        floats = known & ~np.isin(values, (0, 1, 2))
        states[floats & (values >= threshold)] = 2
        text = f"{int(floats.sum())} visibilities are no 0, 1 or 2; they are read as scores"
        return Visibilities(states, np.where(floats, values, np.nan), text)
    if np.all(np.isin(seen, (0, 1, 2, 3))):
        raise PoseFileError(
            "parts have the visibility 3, which COCO does not know (0 missing, 1 hidden, 2 visible)"
        )
    if seen.max() <= _LARGEST_SCORE:
        return _scores(values, known, threshold, None)
    if _LARGEST_SCORE * 5 < seen.max() <= 100:
        text = f"part scores go up to {seen.max():g}, so they are read as per cent"
        return _scores(values / 100, known, threshold, text)
    raise PoseFileError(
        f"the third values of parts go up to {seen.max():g}; scores must be in 0 to 1, visibilities 0, 1 or 2"
    )


def _scores(values: np.ndarray, known: np.ndarray, threshold: float, remark: str | None) -> Visibilities:  # fmt: skip
    states = np.where(known & (values >= threshold), 2, 0)
    return Visibilities(states, np.where(known, values, np.nan), remark)


def _check(seen: np.ndarray, meanings: Mapping[int, int]) -> None:
    if not np.all(np.isin(seen, list(meanings))):
        odd = seen[~np.isin(seen, list(meanings))][0]
        raise PoseFileError(f"visibility {odd:g} must be one of {', '.join(map(str, meanings))}")


def _mapped(values: np.ndarray, known: np.ndarray, meanings: Mapping[int, int]) -> np.ndarray:
    states = np.zeros(values.shape, np.int64)
    for value, state in meanings.items():
        states[known & (values == value)] = state
    return states
