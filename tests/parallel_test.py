"""Four devices take the same step as one; processes that join."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT, count_compilations, drawn_batch, split_batch, tiny_config, tiny_weights

from benchmarks import rows
from pose2seg_jax import parallel
from pose2seg_jax.errors import UserError
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.training.optimizer import create_optimizer
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.state import create_state
from pose2seg_jax.training.step import make_train_step


def _step(config, optimizer):
    spec, options = NetworkSpec.from_config(config.model), TrainOptions.from_config(config)
    return make_train_step(spec, options, optimizer)


def _state(optimizer):
    return create_state(tiny_weights().variables, optimizer)


def _recording_sgd(rate):
    """Plain SGD whose state is the gradient."""

    def update(gradients, _, params=None):
        del params
        return jax.tree.map(lambda g: -rate * g, gradients), gradients

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)


def _norm(tree):
    return float(
        np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(tree)))
    )


@pytest.mark.usefixtures("quick_compile")
def test_four_devices_equal_one_and_compile_once(tmp_path):
    """Loss, gradients, batch statistics and parameters; ROIs jittered, devices unequally full."""
    config = tiny_config(tmp_path, tmp_path)
    assert config.augment.roi_rotation
    optimizer = _recording_sgd(0.1)
    step = _step(config, optimizer)
    batch = drawn_batch(np.random.RandomState(0))

    states, metrics = [], []
    for count in (1, 4):
        state = _state(optimizer)
        run = parallel.train_step(step, jax.devices()[:count])
        state = parallel.replicate(state) if count > 1 else state
        state, measured = run(state, split_batch(batch, count))
        states.append(parallel.to_host(state))
        metrics.append(parallel.to_host(measured))
    assert metrics[0]["loss"] > 0.1
    for name, value in metrics[0].items():
        np.testing.assert_allclose(metrics[1][name], value, rtol=1e-5, err_msg=name)
    for name in ("opt_state", "batch_stats", "params"):
        one, four = (getattr(state, name) for state in states)
        differences = jax.tree.map(np.subtract, four, one)
        assert max(np.abs(x).max() for x in jax.tree.leaves(differences)) <= 1e-5, name
        assert _norm(differences) <= 1e-4 * _norm(one), name
    # Later steps, with other numbers of persons, compile nothing.
    split = split_batch(drawn_batch(np.random.RandomState(1)), 4)
    split = split._replace(valid=split.valid & (np.arange(2) < 1))
    with count_compilations() as compiled:
        state, measured = run(state, split)
        jax.block_until_ready(measured)
    assert not compiled
    assert int(state.step) == 2
    with count_compilations() as compiled:  # and they would have been counted
        jax.jit(lambda x: x + 1)(np.float32(1))
    assert compiled
    # The comparison means something: gradients reach the first layer.
    assert max(np.abs(g).max() for g in jax.tree.leaves(states[0].opt_state["backbone"])) > 1e-3


@pytest.mark.usefixtures("quick_compile")
def test_every_device_holds_the_same_state(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    options = TrainOptions.from_config(config)
    spec = NetworkSpec.from_config(config.model)
    optimizer = create_optimizer(options.optimizer, options.num_steps, spec)
    step = _step(config, optimizer)
    split = split_batch(drawn_batch(np.random.RandomState(1)), 4)
    state = _state(optimizer)
    # Without out_axes=None each device's own result can be seen.
    states, metrics = jax.pmap(
        step, axis_name=parallel.AXIS, in_axes=(None, 0), devices=jax.devices()[:4]
    )(state, split)
    for values in jax.tree.leaves((states, metrics)):
        values = np.asarray(values)
        np.testing.assert_array_equal(values, np.broadcast_to(values[:1], values.shape))


def test_devices_that_hold_different_values_are_named():
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(np.asarray(devices), (parallel.AXIS,))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def held(values):
        pieces = [jax.device_put(value, d) for value, d in zip(values, devices, strict=True)]
        return jax.make_array_from_single_device_arrays(pieces[0].shape, replicated, pieces)

    same = [np.arange(6, dtype=np.float32)] * len(devices)
    step = held([np.int32(3)] * len(devices))
    parallel.check_replicas({"a": held(same), "step": step, "half": held([np.zeros(2, jnp.bfloat16)] * len(devices))})  # fmt: skip
    other = np.nextafter(same[0], 10)  # one bit
    with pytest.raises(
        UserError, match="device 2 of process 0 holds other parameters than device 0"
    ):
        parallel.check_replicas({"a": held([*same[:2], other, *same[3:]]), "step": step})


@pytest.mark.parametrize("spec", ["", "2/2@host:1", "0/2", "0/2@host", "x/2@host:1"])
def test_other_processes_are_named_in_one_way(spec):
    with pytest.raises(UserError, match="must be 'auto' or INDEX/COUNT@HOST:PORT"):
        parallel.join(spec)


def test_a_process_that_waits_in_vain_for_the_others_says_so():
    spec = f"0/2@{rows.free_address()}"
    code = f"from pose2seg_jax import parallel; parallel._PATIENCE = 2; parallel.join('{spec}')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"--distributed={spec}: not all processes have joined within 2 seconds" in line
