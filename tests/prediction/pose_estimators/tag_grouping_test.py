"""Peaks, groups and missing parts against brute force on small maps."""

import itertools

import jax
import numpy as np
import pytest
from conftest import standing_pose

from pose2seg_jax.prediction.pose_estimators import tag_grouping
from pose2seg_jax.prediction.pose_estimators.tag_grouping import Peaks

_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


def _maps(seed, height=7, width=9, tags=2):
    rng = np.random.default_rng(seed)
    heatmaps = rng.normal(0.2, 0.4, (height, width, 17)).astype(np.float32)
    return heatmaps, rng.normal(0, 2, (height, width, 17, tags)).astype(np.float32)


def _refined(heatmaps, i, j, part):
    height, width, _ = heatmaps.shape
    x, y = j + 0.5, i + 0.5
    logarithms = np.log(np.maximum(heatmaps[..., part].astype(np.float64), 1e-3))

    def top(values):
        """Of the parabola through three values at -1, 0 and 1; at most half a cell away."""
        a, b, _ = np.polyfit([-1, 0, 1], values, 2)
        # Where it does not bend down, it is the higher side.
        return np.clip(-b / (2 * a) if a < -1e-3 else np.sign(np.round(b, 6)), -0.5, 0.5)

    if 0 < j < width - 1:
        x += top(logarithms[i, j - 1 : j + 2])
    if 0 < i < height - 1:
        y += top(logarithms[i - 1 : i + 2, j])
    return x, y


def test_the_top_of_a_gaussian_is_found_exactly():
    x, y, sigma = 4.8, 3.3, 1.5
    rows, columns = np.mgrid[:7, :9] + 0.5
    bump = 0.7 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    heatmaps = np.repeat(bump[..., None], 17, axis=-1).astype(np.float32)
    found = tag_grouping.find_peaks(heatmaps, np.zeros((*heatmaps.shape, 1), np.float32))
    np.testing.assert_allclose(found.points[:, 0], np.tile([x, y], (17, 1)), atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_peaks_are_cells_that_no_neighbour_exceeds(seed):
    heatmaps, tags = _maps(seed)
    found = jax.tree.map(np.asarray, jax.jit(tag_grouping.find_peaks)(heatmaps, tags))
    for part in range(17):
        expected = []
        for i, j in np.ndindex(*heatmaps.shape[:2]):
            around = heatmaps[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2, part]
            if heatmaps[i, j, part] == around.max() and heatmaps[i, j, part] > 0:
                expected.append((heatmaps[i, j, part], i, j))
        expected.sort(reverse=True)
        count = np.sum(found.scores[part] > 0)
        assert count == min(len(expected), tag_grouping.MAX_PEAKS)
        for k, (score, i, j) in enumerate(expected[:count]):
            assert found.scores[part, k] == score
            np.testing.assert_allclose(
                found.points[part, k], _refined(heatmaps, i, j, part), rtol=1e-4
            )
            np.testing.assert_array_equal(found.tags[part, k], tags[i, j, part])


def _group_by_trying_everything(peaks):
    """The same rule, where the best assignment is found by looking at all."""
    people, sums = [], []
    for part in _ORDER:
        strong = [k for k, score in enumerate(peaks.scores[part]) if score > 0.1]
        left = set(strong)
        if people and strong:
            means = [s / sum(k is not None for k in p) for s, p in zip(sums, people, strict=True)]
            slots = [*range(len(people)), *[None] * len(strong)]
            best, chosen = None, None
            for choice in set(itertools.permutations(slots, len(strong))):
                pairs = [(k, j) for k, j in zip(strong, choice, strict=True) if j is not None]
                away = [np.linalg.norm(peaks.tags[part, k] - means[j]) for k, j in pairs]
                if any(d >= 1 for d in away):
                    continue
                # As many pairs as can be; then the least in whole numbers; the highest peaks; the nearest.
                cost = sum(np.round(d) * 100 + d**2 * 1e-3 for d in away) - sum(
                    peaks.scores[part, k] for k, _ in pairs
                )
                key = (-len(pairs), cost)
                if best is None or key < best:
                    best, chosen = key, pairs
            for k, j in chosen or ():
                people[j][part] = k
                sums[j] = sums[j] + peaks.tags[part, k]
                left.discard(k)
        for k in sorted(left):
            people.append([None] * 17)
            people[-1][part] = k
            sums.append(peaks.tags[part, k].astype(np.float64))
    return np.asarray([[-1 if k is None else k for k in person] for person in people], int)


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_those_of_trying_every_assignment(seed):
    rng = np.random.default_rng(seed)
    # Up to three peaks of each part, near the tags of three people, some of them alike.
    owners = rng.integers(0, 3, (17, 3))
    tags = np.asarray([0, 0.9, 5])[owners][..., None] + rng.normal(0, 0.3, (17, 3, 1))
    scores = np.where(rng.random((17, 3)) < 0.3, 0, rng.random((17, 3)))
    peaks = Peaks(np.zeros((17, 3, 2)), scores, tags)
    np.testing.assert_array_equal(tag_grouping.group(peaks), _group_by_trying_everything(peaks))


def test_nobody_is_found_where_no_peak_is_high():
    peaks = Peaks(np.zeros((17, 30, 2)), np.full((17, 30), 0.1), np.zeros((17, 30, 1)))
    assert tag_grouping.group(peaks).shape == (0, 17)


def test_two_people_on_each_other_are_told_apart_by_their_tags():
    scores = np.zeros((17, 30))
    scores[:, :2] = 0.9
    tags = np.zeros((17, 30, 1))
    tags[:, 0], tags[:, 1] = 3.0, -3.0
    tags[1::2, :2] = tags[1::2, 1::-1]  # the other is higher in every second part
    found = tag_grouping.group(Peaks(np.zeros((17, 30, 2)), scores, tags))
    assert found.shape == (2, 17)
    means = tag_grouping.mean_tags(Peaks(np.zeros((17, 30, 2)), scores, tags), found)
    np.testing.assert_allclose(means, [[3.0], [-3.0]])


@pytest.mark.parametrize("seed", range(3))
def test_a_missing_part_is_where_heatmap_less_difference_of_tags_is_largest(seed):
    heatmaps, tags = _maps(seed)
    wanted = np.random.default_rng(seed).normal(0, 2, (4, 2)).astype(np.float32)
    points, scores = map(np.asarray, jax.jit(tag_grouping.find_parts_of)(heatmaps, tags, wanted))
    for person, part in np.ndindex(4, 17):
        away = np.linalg.norm(tags[:, :, part] - wanted[person], axis=-1)
        likely = heatmaps[..., part] - np.round(away)
        i, j = np.unravel_index(np.argmax(likely), likely.shape)
        assert scores[person, part] == heatmaps[i, j, part]
        np.testing.assert_allclose(points[person, part], _refined(heatmaps, i, j, part), rtol=1e-4)


def test_drawn_people_are_found_where_they_were_drawn():
    """Two people on each other and one beside them, each with a tag; a part of one has no peak of its own."""
    poses = np.stack([standing_pose(x, 4, 40) for x in (4, 9, 44)])[..., :2]
    poses = np.floor(poses) + 0.3  # the middle between two cells would be two peaks
    y, x = np.mgrid[:64, :80] + 0.5
    heatmaps = np.zeros((64, 80, 17), np.float32)
    tags = np.zeros((64, 80, 17, 1), np.float32)
    for pose, tag in zip(poses, (2.0, -2.0, 6.0), strict=True):
        for part, (px, py) in enumerate(pose):
            squared = (x - px) ** 2 + (y - py) ** 2
            strength = 0.05 if (part, tag) == (9, 6.0) else 0.9
            heatmaps[..., part] = np.maximum(heatmaps[..., part], strength * np.exp(-squared / 8))
            tags[squared < 6, part] = tag
    points, scores = tag_grouping.find_people(heatmaps, tags)
    order = np.argsort(points[:, 0, 0])
    assert len(points) == 3
    np.testing.assert_allclose(points[order], poses, atol=0.51)
    assert scores[order[2], 9] < 0.1
    rest = np.delete(scores[order].ravel(), 2 * 17 + 9)
    assert np.all(rest > 0.8)
