"""MoveNet against what Google's own graph computes on real images."""

import functools

import jax
import numpy as np
import pytest

from pose2seg_jax.models.layers import InvertedResidual, Pointwise
from pose2seg_jax.models.movenet import MoveNet, Separable
from pose2seg_jax.weights import movenet_files

IMAGES = (785, 343218, 91406, 1000)  # of movenet.npz


@pytest.fixture(scope="module")
def golden(data_dir):
    return np.load(data_dir / "golden/movenet.npz")


@pytest.fixture(scope="module")
def variables():
    return movenet_files.load()


@functools.cache
def _network():
    kinds = (InvertedResidual, Pointwise, Separable)
    return jax.jit(
        functools.partial(
            MoveNet().apply, capture_intermediates=lambda module, _: isinstance(module, kinds)
        )
    )


@pytest.mark.parametrize("image_id", IMAGES)
def test_features_and_heads_are_those_of_the_published_graph(golden, variables, image_id):
    maps, captured = _network()(variables, golden[f"{image_id}/input"][None])
    inside = captured["intermediates"]

    def features(layer):
        return np.asarray(inside[layer]["__call__"][0][0])

    for name, layer, rows, channels in (
        ("stride4", "InvertedResidual_2", 7, 4),
        ("stride8", "InvertedResidual_5", 3, 4),
        ("stride16", "InvertedResidual_9", 3, 8),
        ("fpn16", "Separable_0", 3, 4),
        ("fpn8", "Separable_1", 3, 4),
        ("features", "Separable_2", 7, 1),
    ):
        found = features(layer)[::rows, ::rows, ::channels]
        np.testing.assert_allclose(found, golden[f"{image_id}/{name}"], atol=1e-3, err_msg=name)
    last = np.clip(features("Pointwise_0"), 0, 6)[::2, ::2, ::16]
    np.testing.assert_allclose(last, golden[f"{image_id}/backbone"], atol=1e-3)

    np.testing.assert_allclose(maps.centers[0], golden[f"{image_id}/center"], atol=3e-3)
    for ours, theirs in (
        (maps.box_sizes, "box_scale"),
        (maps.box_offsets, "box_offset"),
        (maps.parts, "kpt_heatmap"),
        (maps.regressed, "kpt_regress"),
        (maps.part_offsets, "kpt_offset"),
    ):
        expected = golden[f"{image_id}/{theirs}"]
        if theirs == "box_scale":  # theirs is before the decoder's max
            expected = np.maximum(expected, 0)
        found = np.asarray(ours[0])[::7, ::7].reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=3e-3, err_msg=theirs)
