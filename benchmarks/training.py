"""What a training step costs, and whether the stream keeps up with it.

    python -m benchmarks.training --coco_dir=COCO

The step runs on one real batch again and again, then on the stream. Its operations are XLA's count
for the compiled step; beside them the rate of one large matrix product on the same device.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import rows
from pose2seg_jax import parallel
from pose2seg_jax.models import winograd
from pose2seg_jax.program import data
from pose2seg_jax.training.optimizer import create_optimizer
from pose2seg_jax.training.options import TrainOptions
from pose2seg_jax.training.state import create_state
from pose2seg_jax.training.step import make_train_step

_STEPS = 20


def matrix_rate(dtype: str) -> float:
    """FLOP/s of a large matrix product."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    matrix = jnp.ones((side, side), dtype)
    multiply = jax.jit(jnp.matmul)
    return 2 * side**3 / rows.seconds(lambda: multiply(matrix, matrix).block_until_ready(), 7)


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    config = rows.load_config(options)
    devices = parallel.num_local_devices()
    choices = TrainOptions.from_config(config)
    batches = data.open_stream(config, choices, data.prepare_training(config))(0)
    network = rows.network(config)
    optimizer = create_optimizer(choices.optimizer, choices.num_steps, network.spec)
    state = parallel.replicate(create_state(network.variables, optimizer))
    step: Any = parallel.train_step(make_train_step(network.spec, choices, optimizer))
    batch, _ = next(batches)
    compiled = step.lower(state, batch).compile()
    with winograd.direct(True):  # those that Winograd saves are counted
        operations = step.lower(state, batch).cost_analysis()["flops"] * devices
    memory = compiled.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes

    def run(state, batch):
        state, metrics = step(state, batch)
        return state, metrics["persons"]

    state, trained = run(state, batch)
    persons = int(trained)
    times = []
    for _ in range(_STEPS):
        start = time.perf_counter()
        state, trained = run(state, batch)
        float(trained)
        times.append(time.perf_counter() - start)
    alone = float(np.median(times))

    for _ in range(3):  # what the stream made while nobody asked
        next(batches)
    waited, begin, pending = 0.0, time.perf_counter(), trained
    for _ in range(_STEPS):  # as in `train`: the check of a step waits while the next one runs
        start = time.perf_counter()
        batch, _ = next(batches)
        waited += time.perf_counter() - start
        state, trained = run(state, batch)
        float(pending)
        pending = trained
    float(pending)
    streamed = (time.perf_counter() - begin) / _STEPS

    rate = matrix_rate(config.dtype) * devices
    what = f"{config.batch_size} images, {persons} persons"
    product = "at the product's rate"
    rows.publish(
        [
            rows.Row("training", f"step of {what}", alone, "s", "its FLOP as one product", operations / rate),
            rows.Row("training", f"rate ({operations / 1e9:.4g} GFLOP a step)", operations / alone / 1e9, "GFLOP/s", "matrix product", rate / 1e9),
            rows.Row("training", "images", config.batch_size / alone, "images/s", product, config.batch_size * rate / operations),
            rows.Row("training", "persons", persons / alone, "persons/s", product, persons * rate / operations),
            rows.Row("training", "step from the stream", streamed, "s", "step alone", alone),
            rows.Row("training", "waiting for data", waited / _STEPS, "s a step", "step from the stream", streamed),
            rows.Row("training", "memory of a step", peak / 2**20, "MiB", "state and batch", memory.argument_size_in_bytes / 2**20),
        ],
        options,
    )  # fmt: skip


if __name__ == "__main__":
    rows.run(main)
