"""The training data at the size of full COCO: time, disk, memory, and the first batch of a run that goes on.

    python -m benchmarks.full_coco --coco_dir=COCO --workdir=DIR

The images and persons of COCO are taken again and again, under new ids, until there are as many records as COCOHUMAN's
training split has. The records are prepared as the training prepares them, and for comparison as TFRecords, which can only be read
from their beginning. Before each first batch the files are dropped from the system's cache. The workdir needs room for
both, 10 GB with photos of 80 KB.
"""

import concurrent.futures
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import time
from collections.abc import Callable
from typing import Any

from benchmarks import rows
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import coco, coco_layout

_RECORDS = 56599  # of COCOHUMAN's training split
_SHARE = 0.9  # of an epoch, after which the run goes on
_SECONDS = 20.0


def _enlarge(source: pathlib.Path, target: pathlib.Path, records: int) -> None:
    """Makes a directory in COCO's layout that holds the training images of another again and again."""
    data = json.loads(coco_layout.annotation_file(source, "train").read_text())
    posed = {person.image_id for person in coco.read(coco_layout.annotation_file(source, "train")).persons()}  # fmt: skip
    images = [image for image in data["images"] if image["id"] in posed]
    of_image: dict[int, list[Any]] = {}
    for annotation in data["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    folder = target / "train2017"
    folder.mkdir(parents=True)
    made: dict[str, list[Any]] = {"images": [], "annotations": []}
    for number in range(records):
        image = images[number % len(images)]
        name = f"{number + 1:012}{pathlib.Path(image['file_name']).suffix}"
        os.symlink(coco_layout.image_directory(source, "train") / image["file_name"], folder / name)
        made["images"].append({**image, "id": number + 1, "file_name": name})
        for annotation in of_image[image["id"]]:
            ids = {"id": len(made["annotations"]) + 1, "image_id": number + 1}
            made["annotations"].append({**annotation, **ids})
    (target / "annotations").mkdir()
    content = {**made, "categories": data["categories"]}
    (target / "annotations/person_keypoints_train2017.json").write_text(json.dumps(content))


def _builder(folder: pathlib.Path, kind: str) -> Any:
    from input_pipeline.coco_human.coco_human_dataset_builder import Builder

    return Builder(coco_dir=str(folder / "coco"), data_dir=str(folder / kind), file_format=kind)


def _prepare(folder: pathlib.Path, kind: str) -> dict[str, float]:
    """Prepares the records as one kind of files."""
    start = time.perf_counter()
    builder = _builder(folder, kind)
    builder.download_and_prepare()
    seconds = time.perf_counter() - start
    size = sum(file.stat().st_size for file in (folder / kind).rglob("*") if file.is_file())
    return {"seconds": seconds, "disk": size}


def _drop_from_cache(folder: pathlib.Path) -> None:
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _bytes_from_disk() -> int:
    lines = pathlib.Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def _first_batch(folder: pathlib.Path, share: float, config: Any) -> dict[str, float]:
    """Opens the stream at a share of an epoch, takes the first batch, and then as many as come in some seconds."""
    from input_pipeline import pipeline
    from pose2seg_jax.program import data
    from pose2seg_jax.training.options import TrainOptions

    options = data.stream_options(config, TrainOptions.from_config(config))
    size = options.batch_size
    builder = _builder(folder, "array_record")
    records = builder.info.splits["train"].num_examples
    _drop_from_cache(folder / "array_record")
    before, start = _bytes_from_disk(), time.perf_counter()
    position = int(share * records) // size * size
    stream = pipeline.train_batches(builder, options, position=position, num_devices=1)
    next(stream)
    first, read = time.perf_counter() - start, _bytes_from_disk() - before
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < _SECONDS:
        next(stream)
        images += size
    return {"seconds": first, "read": read, "rate": images / (time.perf_counter() - start)}


def _read_up_to(folder: pathlib.Path, share: float) -> dict[str, float]:
    """Reads TFRecords up to a share of an epoch, as a stream without numbers must before its first batch."""
    import tensorflow as tf

    builder = _builder(folder, "tfrecord")
    records = builder.info.splits["train"].num_examples
    files = [str(path) for path in builder.info.splits["train"].filepaths]
    _drop_from_cache(folder / "tfrecord")
    before, start = _bytes_from_disk(), time.perf_counter()
    for _ in tf.data.TFRecordDataset(files).skip(int(share * records)).take(1):
        pass
    return {"seconds": time.perf_counter() - start, "read": _bytes_from_disk() - before}


def _with_memory(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    found = function(*arguments)
    return found | {"memory": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def _alone(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Runs a function in a process of its own, so that its memory is its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(_with_memory, function, *arguments).result()


def main() -> None:
    parser = rows.parser(__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--records", type=int, default=_RECORDS)
    options = parser.parse_args()
    if not options.coco_dir:
        raise UserError("--coco_dir is missing: name persons in COCO's layout.")
    config = rows.load_config(options)
    folder = options.workdir / "full_coco"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _enlarge(pathlib.Path(options.coco_dir).resolve(), folder / "coco", options.records)
        ours, theirs = (_alone(_prepare, folder, kind) for kind in ("array_record", "tfrecord"))
        start, resumed = (_alone(_first_batch, folder, share, config) for share in (0.0, _SHARE))
        before = _alone(_read_up_to, folder, _SHARE)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    what, at = f"{options.records} records", f"first batch at {_SHARE:.0%} of an epoch"
    rows.publish(
        [
            rows.Row("data", f"to prepare {what}", ours["seconds"], "s", "as TFRecords", theirs["seconds"]),
            rows.Row("data", f"{what} on disk", ours["disk"] / 1e9, "GB", "as TFRecords", theirs["disk"] / 1e9),
            rows.Row("data", "memory at most, preparing", ours["memory"] / 1e9, "GB", "as TFRecords", theirs["memory"] / 1e9),
            rows.Row("data", at, resumed["seconds"], "s", "reading TFRecords up to there", before["seconds"]),
            rows.Row("data", at, resumed["read"] / 1e6, "MB read", "reading TFRecords up to there", before["read"] / 1e6),
            rows.Row("data", at, resumed["seconds"], "s", "first batch at 0 %", start["seconds"]),
            rows.Row("data", "stream behind it", resumed["rate"], "images/s", "from 0 % on", start["rate"]),
            rows.Row("data", "memory at most, streaming", resumed["memory"] / 1e9, "GB", "from 0 % on", start["memory"] / 1e9),
        ],
        options,
    )  # fmt: skip


if __name__ == "__main__":
    rows.run(main)
