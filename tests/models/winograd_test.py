"""Winograd's convolution beside the direct sum in float64, and where it is taken."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pose2seg_jax.models import winograd
from pose2seg_jax.models.layers import Conv

PADDED = [(1, 1), (1, 1)]
NHWC = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def direct_sum(x, kernel, stride=1):
    size = kernel.shape[0]
    border = (size // 2, size // 2)
    padded = np.pad(np.asarray(x, np.float64), [(0, 0), border, border, (0, 0)])
    height, width = x.shape[1:3]
    return sum(
        padded[:, i : i + height : stride, j : j + width : stride] @ kernel[i, j].astype(np.float64)
        for i, j in np.ndindex(size, size)
    )


def made_up(*shape, features, size=3):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(size, size, shape[-1], features)) / np.sqrt(size**2 * shape[-1])
    return rng.normal(size=shape).astype(np.float32), kernel.astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 4, 12, 5), (3, 7, 10, 2), (1, 1, 1, 4)])
def test_it_is_the_direct_sum(shape):
    x, kernel = made_up(*shape, features=6)
    found = jax.jit(winograd.winograd)(x, kernel)
    np.testing.assert_allclose(found, direct_sum(x, kernel), atol=2e-5)


@pytest.mark.parametrize("sides", [(64, 64), (63, 66), (65, 64)])
def test_a_kernel_of_seven_with_stride_two(sides):
    x, kernel = made_up(1, *sides, 64, features=64, size=7)
    convolve = functools.partial(winograd.convolution, window_strides=(2, 2), padding=[(3, 3)] * 2, **NHWC)  # fmt: skip
    assert "platform_index" in primitives(convolve, x, kernel)
    np.testing.assert_allclose(jax.jit(convolve)(x, kernel), direct_sum(x, kernel, 2), atol=1e-4)


def primitives(function, *arguments):
    return str(jax.make_jaxpr(function)(*arguments))


def test_large_convolutions_take_it_on_a_cpu_and_small_ones_do_not():
    x, kernel = made_up(1, 32, 32, 128, features=128)
    convolve = functools.partial(winograd.convolution, window_strides=(1, 1), padding=PADDED, **NHWC)  # fmt: skip
    assert "platform_index" in primitives(convolve, x, kernel)
    assert "stablehlo.convolution" not in jax.jit(convolve).lower(x, kernel).as_text()
    np.testing.assert_allclose(jax.jit(convolve)(x, kernel), direct_sum(x, kernel), atol=1e-4)
    with winograd.direct(True):
        assert "platform_index" not in primitives(convolve, x, kernel)
        assert "stablehlo.convolution" in jax.jit(convolve).lower(x, kernel).as_text()
    for other in (
        (x[:, :28, :28], kernel),  # few tiles
        (x[..., :32], kernel[:, :, :32]),  # few channels
        (x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)),
    ):
        assert "platform_index" not in primitives(convolve, *other)
    strided = functools.partial(winograd.convolution, window_strides=(2, 2), padding=PADDED, **NHWC)
    assert "platform_index" not in primitives(strided, x, kernel)


def test_the_layer_takes_it_and_its_gradient_is_that_of_the_direct_sum():
    x, kernel = made_up(1, 32, 32, 128, features=128)
    layer = Conv(128, 3)
    variables = {"params": {"Conv_0": {"kernel": kernel}}}
    assert "platform_index" in primitives(layer.apply, variables, x)

    def loss(variables, x):
        return jnp.sum(jnp.sin(layer.apply(variables, x)))

    found = jax.grad(loss, argnums=(0, 1))(variables, x)
    with winograd.direct(True):
        expected = jax.grad(loss, argnums=(0, 1))(variables, x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-3), found, expected)
