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
from input_pipeline import pipeline, synthetic
from input_pipeline.coco_human import coco_human_dataset_builder as coco_human
from pose2seg_jax import parallel
from pose2seg_jax.alignment import templates
from pose2seg_jax.training import train, train_state

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
    builder = coco_human.prepare(
        synthetic.coco_dir(config.dataset), config.dataset.data_dir, "train"
    )
    batches = pipeline.train_batches(builder, config, position=0, num_devices=devices)
    model = train_state.create_model(config, parallel.AXIS)
    optimizer = train_state.create_optimizer(config)
    state = parallel.replicate(
        train_state.create_state(config, model, optimizer, jax.random.key(0))
    )
    step: Any = parallel.train_step(
        train.make_train_step(config, model, optimizer, templates.load(config.align.templates))
    )
    batch = train.for_device(next(batches))
    compiled = step.lower(state, batch).compile()
    operations = compiled.cost_analysis()["flops"] * devices
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
        batch = train.for_device(next(batches))
        waited += time.perf_counter() - start
        state, trained = run(state, batch)
        float(pending)
        pending = trained
    float(pending)
    streamed = (time.perf_counter() - begin) / _STEPS

    rate = matrix_rate(config.model.dtype) * devices
    what = f"{config.batch_size} images, {persons} persons"
    rows.publish(
        [
            rows.Row(
                "training",
                f"step of {what}",
                alone,
                "s",
                "its FLOP as one product",
                operations / rate,
            ),
            rows.Row(
                "training",
                f"rate ({operations / 1e9:.4g} GFLOP a step)",
                operations / alone / 1e9,
                "GFLOP/s",
                "matrix product",
                rate / 1e9,
            ),
            rows.Row(
                "training",
                "images",
                config.batch_size / alone,
                "images/s",
                "at the product's rate",
                config.batch_size * rate / operations,
            ),
            rows.Row(
                "training",
                "persons",
                persons / alone,
                "persons/s",
                "at the product's rate",
                persons * rate / operations,
            ),
            rows.Row("training", "step from the stream", streamed, "s", "step alone", alone),
            rows.Row(
                "training",
                "waiting for data",
                waited / _STEPS,
                "s a step",
                "step from the stream",
                streamed,
            ),
            rows.Row(
                "training",
                "memory of a step",
                peak / 2**20,
                "MiB",
                "state and batch",
                memory.argument_size_in_bytes / 2**20,
            ),
        ],
        options,
    )


if __name__ == "__main__":
    rows.run(main)
