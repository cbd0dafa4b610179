"""Every network can be compiled for accelerators: its step and its prediction are lowered for them, without one at hand."""

import functools
import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT, drawn_batch

from pose2seg_jax import parallel
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.models.movenet import MoveNet
from pose2seg_jax.models.variables import variable_shapes
from pose2seg_jax.people.batches import MAX_POSES
from pose2seg_jax.prediction.network import Network, predict_masks
from pose2seg_jax.prediction.pose_estimators import embedding_poses, movenet_poses
from pose2seg_jax.training.optimizer import create_optimizer
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.state import abstract_state
from pose2seg_jax.training.step import make_train_step

PLATFORMS = ("tpu", "cuda")


def _config(name):
    return importlib.import_module(f"configs.{name}").get_config()


# One config for each network: some differ in their data only.
_NETWORKS = {
    NetworkSpec.from_config(_config(name).model).to_json(): name
    for name in sorted(path.stem for path in pathlib.Path(ROOT, "configs").glob("[a-z]*.py"))
}


def _lower(function, *arguments):
    """Lowers a compiled function for all platforms at once; what a platform lacks is an error."""
    function.trace(*arguments).lower(lowering_platforms=PLATFORMS)


def _on_one_device(step):
    """A training step as `parallel.train_step` runs it; what `pmap` returns cannot be lowered for other platforms."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), (parallel.AXIS,))
    whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(parallel.AXIS)

    def of_device(state, batch):
        return step(state, jax.tree.map(lambda values: values[0], batch))

    return jax.jit(
        jax.shard_map(
            of_device, mesh=mesh, in_specs=(whole, split), out_specs=whole, check_vma=False
        )
    )


def _batch(config, images=2, slots=4):
    """The shapes of a batch of one device."""
    like = drawn_batch(np.random.RandomState(0))
    side = config.model.image_size

    def shape(name, values):
        first = slots if name in ("poses", "masks", "to_mask", "image_index", "valid", "person_key") else images  # fmt: skip
        rest = {"frames": (side, side, 3), "image_poses": (MAX_POSES, 17, 3)}.get(name, values.shape[1:])  # fmt: skip
        return jax.ShapeDtypeStruct((1, first, *rest), values.dtype)

    return type(like)(**{name: shape(name, values) for name, values in like._asdict().items()})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", _NETWORKS.values())
def test_steps_and_predictions_are_lowered_for_accelerators(name, dtype):
    config = _config(name)
    config.dtype = dtype
    spec, options = NetworkSpec.from_config(config.model), TrainOptions.from_config(config)
    optimizer = create_optimizer(options.optimizer, options.num_steps, spec)
    step = make_train_step(spec, options, optimizer)
    _lower(_on_one_device(step), abstract_state(spec, optimizer), _batch(config))
    network, variables = Network(spec, dtype), variable_shapes(spec)
    if spec.segments and spec.policy != "box":
        _lower(
            jax.jit(functools.partial(predict_masks, network)),
            variables,
            jax.ShapeDtypeStruct((480, 640, 3), jnp.uint8),
            jax.ShapeDtypeStruct((4, 17, 3), jnp.float32),
            jax.ShapeDtypeStruct((4,), jnp.bool_),
        )
    if spec.finds_poses:
        canvas = jax.ShapeDtypeStruct((1, spec.image_size, spec.image_size, 3), jnp.uint8)
        features = jax.eval_shape(network.encode, variables, canvas)
        _lower(jax.jit(functools.partial(embedding_poses.find_maps, network)), variables, features)


@pytest.mark.parametrize("flip", [False, True])
def test_the_pose_network_is_lowered_for_accelerators(flip):
    variables = jax.eval_shape(MoveNet().init, jax.random.key(0), jnp.zeros((1, 64, 64, 3), jnp.uint8))  # fmt: skip
    canvases = [jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8) for side in (256, 512)]
    find = jax.jit(functools.partial(movenet_poses.find_people, flip=flip))
    _lower(find, variables, canvases, jax.ShapeDtypeStruct((2,), jnp.float32))
