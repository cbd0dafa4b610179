"""Four devices take the same step as one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conftest import standing_pose, tiny_config

from pose2seg_jax import parallel, templates, train, train_state


def _batch(rng):
    poses = np.stack([standing_pose(rng.uniform(0, 20), rng.uniform(0, 10), 50) for _ in range(8)])
    masks = np.zeros((8, 64, 64), np.uint8)
    for mask, pose in zip(masks, poses, strict=True):
        x0, y0, x1, y1 = (*pose[:, :2].min(0), *pose[:, :2].max(0))
        mask[int(y0) : int(y1), int(x0) : int(x1)] = 255
    return {
        "image": rng.randint(0, 255, (4, 64, 64, 3)).astype(np.uint8),
        "pose": poses,
        "mask": masks,
        "image_index": np.array([0, 0, 1, 1, 2, 2, 3, 3], np.int32),
        # Devices hold different numbers of persons.
        "valid": np.array([1, 1, 1, 0, 0, 0, 1, 1], bool),
    }


def test_four_devices_equal_one(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    for field in ("jitter_rotation", "jitter_scale", "jitter_translation"):
        config.align[field] = 0.0  # drawn per device
    optimizer = optax.sgd(0.1)
    model = train_state.create_model(config, parallel.AXIS)
    step = train.make_train_step(config, model, optimizer, jnp.asarray(templates.load()))
    batch = _batch(np.random.RandomState(0))
    split = {k: v.reshape(4, -1, *v.shape[1:]) for k, v in batch.items()}
    split["image_index"] = split["image_index"] % 1
    whole = {k: v[None] for k, v in batch.items()}

    states, metrics = [], []
    for count, data in ((1, whole), (4, split)):
        state = train_state.create_state(config, model, optimizer, jax.random.key(0))
        run = parallel.train_step(step, jax.devices()[:count])
        state, measured = run(state, data)
        states.append(parallel.to_host(state))
        metrics.append(parallel.to_host(measured))
    np.testing.assert_allclose(metrics[0]["loss"], metrics[1]["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics[0]["gradient_norm"], metrics[1]["gradient_norm"], rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        (states[0].params, states[0].batch_stats),
        (states[1].params, states[1].batch_stats),
    )


def test_a_step_compiles_once(caplog):
    def step(state, batch):
        return state + parallel.sum_over_devices(jnp.sum(batch)), {}

    run = parallel.train_step(step)
    state, batch = parallel.replicate(jnp.zeros(3)), np.ones((4, 2), np.float32)
    with jax.log_compiles():
        for _ in range(3):
            state, _ = run(state, batch)
    assert sum(m.startswith("Compiling jit(_fun)") for m in caplog.messages) == 1
    np.testing.assert_array_equal(state, np.full(3, 24.0))


def test_every_device_holds_the_same_state(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    optimizer = train_state.create_optimizer(config)
    model = train_state.create_model(config, parallel.AXIS)
    step = train.make_train_step(config, model, optimizer, jnp.asarray(templates.load()))
    batch = _batch(np.random.RandomState(1))
    split = {k: v.reshape(4, -1, *v.shape[1:]) for k, v in batch.items()}
    split["image_index"] = split["image_index"] % 1
    state = train_state.create_state(config, model, optimizer, jax.random.key(0))
    # Without out_axes=None each device's own result can be seen.
    states, metrics = jax.pmap(
        step, axis_name=parallel.AXIS, in_axes=(None, 0), devices=jax.devices()[:4]
    )(state, split)
    for values in jax.tree.leaves((states, metrics)):
        values = np.asarray(values)
        np.testing.assert_array_equal(values, np.broadcast_to(values[:1], values.shape))
