"""Fits against SciPy and scikit-image; the algebra of 2x3 matrices."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import skimage.transform

from pose2seg_jax.alignment import geometry, templates


def _lstsq(source, target, weights, reflect):
    """The normal equations of (a, b, tx, ty), solved by SciPy."""
    mirror = -1.0 if reflect else 1.0
    rows, values = [], []
    for (x, y), (u, v), w in zip(source * [mirror, 1], target, weights, strict=True):
        rows += [[w**0.5 * n for n in (x, y, 1, 0)], [w**0.5 * n for n in (y, -x, 0, 1)]]
        values += [w**0.5 * u, w**0.5 * v]
    a, b, tx, ty = scipy.linalg.lstsq(np.array(rows), np.array(values))[0]
    return np.array([[a * mirror, b, tx], [-b * mirror, a, ty]])


@pytest.mark.parametrize("reflect", [False, True])
def test_fit_equals_scipy_on_random_points(reflect):
    rng = np.random.RandomState(0)
    with jax.enable_x64(True):
        for _ in range(20):
            source, target = rng.randn(17, 2) * 100 + 300, rng.rand(17, 2) * 64
            weights = rng.rand(17) * (rng.rand(17) > 0.3)
            matrix, residual = geometry.fit_similarity(source, target, weights, reflect=reflect)
            np.testing.assert_allclose(
                matrix, _lstsq(source, target, weights, reflect), rtol=1e-6, atol=1e-6
            )
            error = np.asarray(geometry.apply(matrix, source)) - target
            expected = np.sqrt(np.sum(weights[:, None] * error**2) / weights.sum())
            np.testing.assert_allclose(residual, expected, rtol=1e-9)


def test_fit_equals_scipy_and_skimage_on_real_poses(real_poses):
    template = templates.load()[0].astype(np.float64)
    compared = 0
    with jax.enable_x64(True):
        for pose in real_poses[:150].astype(np.float64):
            common = (pose[:, 2] > 0) & (template[:, 2] > 0)
            if common.sum() < 3:
                continue
            source, target = pose[common, :2], 64 * template[common, :2]
            matrix, _ = geometry.fit_similarity(
                pose[:, :2], 64 * template[:, :2], common.astype(np.float64)
            )
            expected = _lstsq(source, target, np.ones(len(source)), False)
            np.testing.assert_allclose(matrix, expected, rtol=1e-6, atol=1e-6)
            # scikit-image minimises the distance in the target too, but for its scale: Umeyama's.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                umeyama = skimage.transform.SimilarityTransform()
                umeyama.estimate(source, target)
            if umeyama.params[0, 0] * umeyama.params[1, 1] > 0 and np.linalg.det(expected[:, :2]):
                np.testing.assert_allclose(matrix, umeyama.params[:2], rtol=1e-6, atol=1e-6)
                compared += 1
    assert compared > 80


@pytest.mark.parametrize("reflect", [False, True])
def test_fit_recovers_an_exact_similarity(reflect):
    rng = np.random.RandomState(1)
    angle, scale = 2.1, 0.37
    linear = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = linear @ np.diag([-1 if reflect else 1, 1])
    true = np.concatenate([linear, [[12.0], [-7.0]]], axis=1)
    source = rng.rand(6, 2) * 500
    target = source @ linear.T + true[:, 2]
    matrix, residual = geometry.fit_similarity(
        source.astype(np.float32),
        target.astype(np.float32),
        np.ones(6, np.float32),
        reflect=reflect,
    )
    np.testing.assert_allclose(matrix, true, atol=2e-3)
    assert residual < 1e-3
    assert bool(geometry.is_mirrored(matrix)) is reflect
    np.testing.assert_allclose(geometry.scale_of(matrix), scale, rtol=1e-5)


@pytest.mark.parametrize(
    ("points", "weights"),
    [
        (np.random.RandomState(0).rand(17, 2) * 640, np.zeros(17)),
        (np.random.RandomState(0).rand(17, 2) * 640, np.eye(17)[3]),
        (np.full((17, 2), 321.5), np.ones(17)),
        (np.stack([np.arange(17.0), 2 * np.arange(17.0)], 1), np.ones(17)),
        (np.random.RandomState(0).rand(17, 2) * 640, np.eye(17)[3] + np.eye(17)[5]),
    ],
    ids=["no part", "one part", "coincident", "collinear", "two parts"],
)
@pytest.mark.parametrize("reflect", [False, True])
def test_degenerate_sets_have_finite_values_and_gradients(points, weights, reflect):
    target = jnp.asarray(templates.load()[0][:, :2] * 64)
    points, weights = jnp.asarray(points, jnp.float32), jnp.asarray(weights, jnp.float32)

    def loss(points, target, weights):
        matrix, residual = geometry.fit_similarity(points, target, weights, reflect=reflect)
        return jnp.sum(matrix**2) + residual

    value, grads = jax.value_and_grad(loss, argnums=(0, 1, 2))(points, target, weights)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(g)) for g in grads)


def test_without_spread_only_the_translation_is_fitted():
    target = np.random.RandomState(0).rand(17, 2).astype(np.float32)
    weights = np.eye(17, dtype=np.float32)[4]
    source = np.full((17, 2), 10, np.float32)
    matrix, _ = geometry.fit_similarity(source, target, weights)
    np.testing.assert_allclose(matrix[:, :2], np.eye(2))
    np.testing.assert_allclose(matrix[:, 2], target[4] - 10, atol=1e-6)


def test_batches_equal_a_loop_and_compile_once():
    rng = np.random.RandomState(2)
    source, target = rng.rand(2, 8, 17, 2).astype(np.float32)
    weights = (rng.rand(8, 17) > 0.5).astype(np.float32)
    traces = []

    @jax.jit
    def fit(*args):
        traces.append(1)
        return jax.vmap(geometry.fit_similarity)(*args)

    matrices, residuals = fit(source, target, weights)
    fit(source + 1, target, weights)
    assert len(traces) == 1
    batched = geometry.fit_similarity(source, target, weights)
    for i in range(8):
        matrix, residual = geometry.fit_similarity(source[i], target[i], weights[i])
        np.testing.assert_allclose(matrices[i], matrix, atol=1e-5)
        np.testing.assert_allclose(batched[0][i], matrix, atol=1e-5)
        np.testing.assert_allclose(residuals[i], residual, atol=1e-5)


def test_compose_invert_apply():
    rng = np.random.RandomState(3)
    outer, inner = rng.randn(2, 5, 2, 3).astype(np.float32)
    points = rng.randn(5, 9, 2).astype(np.float32)
    both = geometry.apply(geometry.compose(outer, inner), points)
    np.testing.assert_allclose(
        both, geometry.apply(outer, geometry.apply(inner, points)), atol=1e-4
    )
    back = geometry.apply(geometry.invert(inner), geometry.apply(inner, points))
    np.testing.assert_allclose(back, points, atol=1e-3)
    homogeneous = np.concatenate([inner, np.tile([[[0, 0, 1]]], (5, 1, 1))], axis=1)
    np.testing.assert_allclose(
        geometry.invert(inner), np.linalg.inv(homogeneous)[:, :2], rtol=1e-3, atol=1e-4
    )


def test_a_grid_is_its_pixel_centres():
    matrices = np.random.RandomState(4).randn(3, 2, 3).astype(np.float32)
    x, y = geometry.apply_to_grid(matrices, 4, 5)
    for row, column in ((0, 0), (3, 1), (2, 4)):
        moved = geometry.apply(matrices, np.asarray([[column + 0.5, row + 0.5]], np.float32))
        np.testing.assert_allclose(x[:, row, column], moved[:, 0, 0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(y[:, row, column], moved[:, 0, 1], rtol=1e-5, atol=1e-5)


def test_letterbox_keeps_the_aspect_and_centres():
    matrix = geometry.letterbox(jnp.asarray([480.0, 640.0]), 64)
    corners = geometry.apply(matrix, jnp.asarray([[0.0, 0.0], [640.0, 480.0]]))
    np.testing.assert_allclose(corners, [[0, 8], [64, 56]])
