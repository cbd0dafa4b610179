"""Data parallelism: the only place with pmap, collectives and knowledge of hosts.

State is replicated, batches have a leading device axis. `out_axes=None` takes a result from one
device on trust; tests/parallel_test.py checks that all devices hold the same.
"""

import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pose2seg_jax.errors import UserError

AXIS = "batch"
_PATIENCE = 300  # seconds in which all processes of a run must have joined


def train_step(
    step: Callable[[Any, Any], tuple[Any, Any]], devices: Sequence[jax.Device] | None = None
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Runs `step(state, batch) -> (state, metrics)` on all devices; the state's buffers are reused.

    The step sees its device's part of the batch and must make its results equal on every device
    with `sum_over_devices`.
    """
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
    )


def replicate(tree: Any) -> Any:
    """Places a state on the local devices as `train_step` returns it.

    A state from elsewhere would be placed by its first step, and the second, called with another
    placement, would be compiled again.
    """
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))


def check_replicas(tree: Any) -> None:
    """Checks that every device of every process holds the same values, bit for bit.

    A step trusts that they do. A device that computes wrongly, or a link that loses bits, would go unnoticed otherwise.

    Raises:
        UserError: a device holds other values than the first; the message names both.
    """
    leaves = [x.addressable_shards for x in jax.tree.leaves(tree) if isinstance(x, jax.Array)]
    if not leaves or len(leaves[0]) * jax.process_count() == 1:
        return
    by_device = zip(*([shard.data for shard in shards] for shards in leaves), strict=True)
    sums = [int(_bit_sum(list(pieces))) for pieces in by_device]
    everywhere = share(lambda index, count: sums)
    for process, found in enumerate(everywhere):
        for device, value in enumerate(found):
            if value != everywhere[0][0]:
                raise UserError(
                    f"device {device} of process {process} holds other parameters than device 0 of process 0, though"
                    " they must be equal: one of the two, or the link between them, is at fault. The newest checkpoint"
                    " is from before that was seen; go on from it without the faulty device."
                )


@jax.jit
def _bit_sum(leaves: list[Any]) -> jax.Array:
    """A number that changes when a bit of the leaves does."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in leaves:
        kind = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
        bits = jax.lax.bitcast_convert_type(leaf, kind) if leaf.dtype != bool else leaf
        total = total * jnp.uint32(31) + jnp.sum(bits.astype(jnp.uint32), dtype=jnp.uint32)
    return total


def map_devices(
    function: Callable[..., Any], num_replicated: int, num_split: int
) -> Callable[..., Any]:
    """Runs a function on the local devices: the first arguments replicated, the others split."""
    axes = (None,) * num_replicated + (0,) * num_split
    return jax.pmap(function, in_axes=axes, devices=jax.local_devices())


def sum_over_devices(tree: Any, axis_name: str = AXIS) -> Any:
    """Adds up across all devices of all processes; only within `train_step`."""
    return jax.lax.psum(tree, axis_name)


def num_local_devices() -> int:
    """Devices of this process."""
    return jax.local_device_count()


def per_device(field: str, total: int, devices: int) -> int:
    """Returns a device's part of a total such as a batch size.

    Raises:
        UserError: it cannot be shared equally; the message names the config field.
    """
    if total % devices or total < devices:
        raise UserError(
            f"config field {field} is {total}, which cannot be shared equally by {devices}"
            f" devices; set it to a multiple of {devices}, or show JAX fewer of them"
            " (CUDA_VISIBLE_DEVICES=0)."
        )
    return total // devices


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def join(spec: str) -> None:
    """Joins the other processes of a run; before anything else touches JAX.

    Args:
        spec: "auto" on a TPU pod and under Slurm or Open MPI; otherwise INDEX/COUNT@HOST:PORT, where
            HOST:PORT is an address on the host of process 0 that the others reach.

    Raises:
        UserError: the spec is neither, or the others cannot be found.
    """
    match = re.fullmatch(r"(\d+)/(\d+)@(.+:\d+)", spec)
    if spec != "auto" and not (match and int(match[1]) < int(match[2])):
        raise UserError(
            f"--distributed is '{spec}'; it must be 'auto' or INDEX/COUNT@HOST:PORT, such as"
            " 0/2@10.0.0.1:8476."
        )
    # JAX itself would end the process with a trace of its own.
    timer = threading.Timer(_PATIENCE, _give_up, [spec])
    timer.daemon = True
    timer.start()
    late = 2 * _PATIENCE
    try:
        if match:
            jax.distributed.initialize(match[3], int(match[2]), int(match[1]), initialization_timeout=late)  # fmt: skip
        else:
            jax.distributed.initialize(initialization_timeout=late)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed={spec}: the other processes were not found: {error}"
        ) from None
    finally:
        timer.cancel()
    wait_for_all("joined")  # connects the devices while nobody is busy elsewhere


def _give_up(spec: str) -> None:
    print(
        f"error: --distributed={spec}: not all processes have joined within {_PATIENCE} seconds. Start one on each host, with"
        " the same command, and let all of them reach the address of the first.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def run_with_others(function: Callable[[], Any]) -> None:
    """Runs a function that works with other processes; where it fails, this process ends at once, with exit status 1.

    To leave in the usual way would wait for the others, and those wait for this process, or are lost. What the user can
    mend is one line on standard error, and so is the loss of another process.
    """
    try:
        function()
        return
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        os._exit(130)
    except Exception as error:
        if not is_loss_of_a_process(error):
            traceback.print_exc()
        else:
            first = next(iter(str(error).splitlines()), "")
            print(
                "error: another process of this run has ended, or cannot be reached. Start all of them again: the run goes"
                f" on from the newest checkpoint. ({first:.200})",
                file=sys.stderr,
            )
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def is_loss_of_a_process(error: BaseException) -> bool:
    """Returns whether an error says that another process of this run cannot be reached."""
    if processes()[1] == 1:
        return False
    words = ("Gloo", "NCCL", "heartbeat", "oordination service", "Connection reset", "Connection closed", "arrier")  # fmt: skip
    return any(word in str(error) for word in words) and "RESOURCE_EXHAUSTED" not in str(error)


def processes() -> tuple[int, int]:
    """Index of this process and how many there are."""
    return jax.process_index(), jax.process_count()


def to_host(tree: Any) -> Any:
    """A copy in the memory of this process, as NumPy arrays."""
    return jax.tree.map(lambda x: jax.device_get(x) if isinstance(x, jax.Array) else x, tree)


def is_asked_to_end(step: int) -> bool:
    """Returns whether all processes end after this step, because one of them got SIGTERM; every process asks every step."""
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(step)


def check_same(what: str, value: int) -> None:
    """Whether all processes have the same number.

    Raises:
        UserError: they do not.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        values = multihost_utils.process_allgather(np.asarray(value)).tolist()
        if len(set(values)) > 1:
            raise UserError(
                f"the processes do not agree on {what}: {values}; --workdir must be on a disk that"
                " all of them see."
            )


def first_process_first(name: str, function: Callable[[], Any]) -> Any:
    """Calls a function that writes files others read: the first process alone, then the others."""
    first = jax.process_index() == 0
    if not first:
        wait_for_all(name)
    try:
        return function()
    finally:  # also where it fails: the others then fail with the same words
        if first:
            wait_for_all(name)


def share(function: Callable[[int, int], Any]) -> list[Any]:
    """Calls a function in every process with the index of the process and their number, and returns all results, in order.

    Args:
        function: returns its part of the work, as what JSON can hold.

    Raises:
        UserError: it raised an error in another process. The error of this process is raised as it is.
    """
    index, count = processes()
    if count == 1:
        return [function(0, 1)]
    from jax.experimental import multihost_utils

    own, outcome = None, {}
    try:
        outcome["result"] = function(index, count)
    except Exception as error:  # the others must not wait for ever
        own, outcome = error, {"error": f"process {index}: {error}"}
    data = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.asarray(len(data)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(data)] = data
    gathered = multihost_utils.process_allgather(padded)
    outcomes = [
        json.loads(row[:length].tobytes()) for row, length in zip(gathered, lengths, strict=True)
    ]
    if own is not None:
        raise own
    for other in outcomes:
        if "error" in other:
            raise UserError(f"another process of this run failed: {other['error']}")
    return [other["result"] for other in outcomes]


def wait_for_all(name: str) -> None:
    """Returns when every process has called it."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
