"""Charts of the report, as SVG that a page holds; drawn by matplotlib, without a display."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pose2seg_jax.evaluation.breakdown import Group, PersonMask

_SIZE = (4.6, 3.2)  # inches of 72 points
_BINS = 10  # of the scores


def learning_curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    """A scalar of a run, by step."""
    figure, axes = _axes(name, "step", "")
    axes.plot(*np.asarray(points).T)
    return _svg(figure)


def reliability(masks: Sequence[PersonMask]) -> str:
    """Whether a mask's own score is its IoU: the mean of each tenth of the scores, and how many persons that are."""
    figure, axes = _axes("Is the own score the IoU?", "own score", "IoU")
    scores, ious = (
        np.asarray([getattr(mask, name) for mask in masks]) for name in ("score", "iou")
    )
    bins = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    there = np.unique(bins)
    counts = np.bincount(bins, minlength=_BINS)[there]
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="dashed")
    axes.scatter(scores, ious, s=4, alpha=0.25, linewidths=0)
    means = [[values[bins == b].mean() for b in there] for values in (scores, ious)]
    axes.plot(*means, marker="o", color="C1")
    for x, y, count in zip(*means, counts, strict=True):
        axes.annotate(str(count), (x, y), xytext=(4, -10), textcoords="offset points", fontsize=7)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return _svg(figure)


def bars(kind: str, groups: Sequence[Group]) -> str:
    """AP and mean IoU of the groups of one kind."""
    figure, axes = _axes(f"By {kind}", "", "")
    places = np.arange(len(groups))
    names = {"unit": "AP, scores 1.0", "own": "AP, own scores", "mean_iou": "mean IoU"}
    for number, (field, name) in enumerate(names.items()):
        heights = [getattr(group, field) for group in groups]
        axes.bar(places + (number - 1) * 0.27, heights, 0.25, label=name)
    labels = [f"{group.label}\n({group.persons})" for group in groups]
    axes.set_xticks(places, labels, fontsize=8)
    axes.set(ylim=(0, 1))
    axes.legend(fontsize=7, loc="upper left", ncols=3)
    return _svg(figure)


def robustness(by_level: Mapping[float, Mapping[str, float]]) -> str:
    """AP by how wrong the poses are, a line a metric."""
    figure, axes = _axes("Poses that are wrong", "level of the noise", "AP")
    levels = sorted(by_level)
    for name in by_level[levels[0]]:
        axes.plot(levels, [by_level[level][name] for level in levels], marker="o", label=name)
    axes.set(ylim=(0, 1))
    axes.legend(fontsize=7)
    return _svg(figure)


def _axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"
