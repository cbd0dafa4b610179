"""How fast the training stream is, beside a loop that only decodes the same files.

    python -m benchmarks.input_stream --coco_dir=COCO

Both run in tf.data with the same threads over the same records. The loop parses every record and
decodes its JPEG at full scale, and does nothing else.
"""

import time

import tensorflow as tf
import tensorflow_datasets as tfds

from benchmarks import rows
from input_pipeline import pipeline
from pose2seg_jax.program import data
from pose2seg_jax.training.options import TrainOptions

_SECONDS = 6.0
_ROUNDS = 3


def _decode_only(builder):
    records, features = pipeline.open_records(builder), builder.info.features

    def load(number):
        example = features.deserialize_example(
            pipeline.read_record(records, number),
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        return tf.reduce_max(tf.io.decode_jpeg(example["image"], 3, dct_method="INTEGER_ACCURATE"))

    numbers = tf.data.Dataset.range(len(records)).repeat()
    decoded = numbers.map(load, num_parallel_calls=pipeline.PARALLEL_CALLS).prefetch(16)
    return decoded.with_options(pipeline.OPTIONS).as_numpy_iterator()


def _rate(stream, images: int) -> float:
    """Images a second of a stream whose items hold so many."""
    for _ in range(max(64 // images, 2)):
        next(stream)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < _SECONDS:
        next(stream)
        count += images
    return count / (time.perf_counter() - start)


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    config = rows.load_config(options)
    builder = data.prepare_training(config)
    stream_options = data.stream_options(config, TrainOptions.from_config(config))
    found: dict[str, list[float]] = {"stream": [], "decode": []}
    for _ in range(_ROUNDS):  # in turns: the machine may be busier at one time than at another
        found["decode"].append(_rate(_decode_only(builder), 1))
        stream = pipeline.train_batches(builder, stream_options, position=0, num_devices=1)
        found["stream"].append(_rate(stream, config.batch_size))
    stream_rate, decode_rate = (sorted(found[name])[_ROUNDS // 2] for name in ("stream", "decode"))
    what = f"training stream, {config.model.image_size} px, batches of {config.batch_size}"
    rows.publish(
        [rows.Row("input", what, stream_rate, "images/s", "decoding alone", decode_rate)], options
    )


if __name__ == "__main__":
    rows.run(main)
