"""Files of every kind, changed and damaged: what reads them gives a value or one clear error, in bounded time and memory.

Pose files have a test of their own. Ten thousand of each kind, in one process each:

    POSE2SEG_MUTATIONS=10000 python -m pytest tests/readers_test.py
"""

import gzip
import io
import json
import os
import random
import struct
import time
import warnings
import zipfile
import zlib

import numpy as np
import PIL.Image
import pytest
import torch_checkpoint
from conftest import tiny_config, tiny_weights, true_results, write_coco
from mutations import damaged, mutated
from pose_file_fixtures import DOCUMENTED

from pose2seg_jax.alignment import templates
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import results_files
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.people import coco, images, json_files, ochuman
from pose2seg_jax.people.pose_files import read_poses
from pose2seg_jax.program.job import Done, Job
from pose2seg_jax.training import run_record
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights import movenet_files, torch_files
from pose2seg_jax.weights.files import WeightsError

_IDENTITY = {"network": "abc", "prediction.flip": False}
_COUNT = int(os.environ.get("POSE2SEG_MUTATIONS", "60"))
_SECONDS = 20  # of one file
(_POSES,) = (text for title, _, text in DOCUMENTED if title == "OCHuman")
_OCHUMAN = json.loads(_POSES)
_OCHUMAN["images"][0]["image_id"] = "000001"
for _person in _OCHUMAN["images"][0]["annotations"]:
    _person["bbox"] = [60, 20, 140, 290]
    _person["max_iou"] = 0.3
    _person["segms"] = {
        "outer": [[60, 20, 140, 20, 140, 290]],
        "inner": [],
        "height": 300,
        "width": 200,
    }


class _Kind:
    """A kind of file: its valid content and what reads it."""

    def __init__(self, name, content, read, *, is_json=False, beside=None):
        self.name, self.content, self.read, self.is_json = name, content, read, is_json
        self.beside = beside or {}  # files that it names

    def change(self, rng):
        if self.is_json and rng.random() < 0.9:
            return json.dumps(mutated(json.loads(self.content), rng)).encode()
        if self.name.endswith(".jsonl") and rng.random() < 0.9:
            lines = self.content.splitlines()
            at = rng.randrange(len(lines))
            lines[at] = json.dumps(mutated(json.loads(lines[at]), rng)).encode()
            return b"\n".join(lines) + b"\n"
        return damaged(self.content, rng)


def _picture(format_):
    pixels = np.random.RandomState(0).randint(0, 255, (32, 24, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, format_)
    return buffer.getvalue()


def _checkpoint(path, legacy):
    """What `torch.save` writes of a dictionary of arrays."""
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)}
    torch_checkpoint.write(path, arrays, legacy=legacy)
    return path.read_bytes()


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """All kinds of files by name."""
    root = tmp_path_factory.mktemp("valid")
    write_coco(root, {"val2017": [1, 2]})
    annotations = root / "annotations/person_keypoints_val2017.json"
    content = json.loads(annotations.read_text())
    square = [[10, 10, 40, 10, 40, 50, 10, 50]]
    content["annotations"][0]["segmentation"] = square  # polygons beside RLE
    dataset = coco.read(annotations)
    weights.save(root / "w.safetensors", tiny_weights())
    graph, numbers = _graph_model()
    config = tiny_config("", "")
    run_record.new(config, NetworkSpec.from_config(config.model), "x").write(root)
    made = [
        _Kind("annotations.json", json.dumps(content).encode(), _annotations, is_json=True),
        _Kind("results.json", json.dumps(true_results(dataset)).encode(), lambda path: results_files.evaluate_file(dataset, path), is_json=True),
        _Kind("templates.json", templates.source().read_bytes(), templates.load, is_json=True),
        _Kind("run.json", (root / "run.json").read_bytes(), lambda path: run_record.read(path.parent), is_json=True),
        _Kind("ochuman.json", json.dumps(_OCHUMAN).encode(), _ochuman, is_json=True),
        _Kind("job.jsonl", _job(root / "job"), _journal),
        _Kind("movenet.json", graph, _graph, is_json=True, beside={"movenet.bin": numbers}),
        _Kind("new.pth", _checkpoint(root / "new.pth", False), torch_files.read),
        _Kind("old.pth", _checkpoint(root / "old.pth", True), torch_files.read),
        _Kind("w.safetensors", (root / "w.safetensors").read_bytes(), weights.load),
        *(_Kind(f"photo.{suffix}", _picture(suffix), _pixels) for suffix in ("jpeg", "png", "webp", "gif", "tiff", "bmp")),
    ]  # fmt: skip
    return {kind.name: kind for kind in made}


def _annotations(path):
    """As the evaluation and the pipeline use them: all masks are decoded."""
    from pycocotools import mask as mask_utils

    for image in coco.read(path).images:
        for person in image.posed:
            assert np.all(np.isfinite(person.pose))
            if person.segmentation is not None:
                assert mask_utils.decode(person.segmentation).shape == (image.height, image.width)


def _pixels(path):
    image = images.open_image(path)
    assert np.asarray(image.convert("RGB")).ndim == 3


def _ochuman(path):
    ochuman.convert(json_files.load(path), path, "all", (0.0, 1.0))


def _job(folder):
    """The journal of a prediction of two photos."""
    folder.mkdir()
    job = Job(folder, _IDENTITY, overwrite=False)
    mask = {"size": [4, 3], "counts": "444"}
    entry = {"image_id": 1, "category_id": 1, "segmentation": mask, "score": 0.5}
    with job.writing():
        for name in ("a.jpg", "b.jpg"):
            job.claim([f"{name}_overlay.png"])
            done = Done([entry], [f"{name}_overlay.png"], ["overlay"])
            job.add(folder / name, name, ["estimated"], done)
        job.finish([], ["coco"])
    return (folder / "job.jsonl").read_bytes()


def _journal(path):
    """As the command goes on: the results of all photos are written."""
    results = [path.parent / name for name in ("results.json", "polygons.json")]
    try:
        job = Job(path.parent, _IDENTITY, overwrite=False)
        job.is_done(path.parent / "a.jpg", ["estimated"], ["overlay"])
        with job.writing():
            job.finish([path.parent / "a.jpg"], ["coco", "polygons"])
    finally:
        for file in results:
            file.unlink(missing_ok=True)


def _graph_model():
    """A small TF.js graph model of two tensors."""
    values = np.arange(10, dtype=np.float16).tobytes()
    tensors = [
        {"name": "a", "shape": [2, 3], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "b", "shape": [4], "dtype": "float32", "quantization": {"dtype": "float16"}},
    ]
    nodes = [{"name": "a", "op": "Const", "input": [], "attr": {}}]
    content = {
        "format": "graph-model", "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": ["movenet.bin"], "weights": tensors}],
    }  # fmt: skip
    return json.dumps(content).encode(), values


def _graph(path):
    """Its tensors are read; that they are those of MoveNet is looked at behind that."""
    try:
        movenet_files.convert(path)
    except WeightsError as error:
        if f"is not {movenet_files.KIND}" not in str(error):
            raise


_NAMES = (
    "annotations.json", "results.json", "templates.json", "run.json", "ochuman.json", "job.jsonl", "movenet.json", "new.pth", "old.pth", "w.safetensors", "photo.jpeg", "photo.png",
    "photo.webp", "photo.gif", "photo.tiff", "photo.bmp",
)  # fmt: skip


@pytest.mark.parametrize("name", _NAMES)
def test_changed_and_damaged_files(kinds, name, tmp_path):
    kind, path = kinds[name], tmp_path / name
    path.write_bytes(kind.content)
    for beside, content in kind.beside.items():
        (tmp_path / beside).write_bytes(content)
    kind.read(path)
    refused, slowest = 0, 0.0
    for seed in range(_COUNT):
        data = kind.change(random.Random(f"{name} {seed}"))
        path.write_bytes(data)
        start, said = time.monotonic(), name
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                kind.read(path)
        except UserError as error:
            refused += 1
            said = str(error)
        except Exception as error:
            raise AssertionError(f"mutation {seed}: {data[:800]!r}") from error
        slowest = max(slowest, time.monotonic() - start)
        assert name in said, f"mutation {seed}"
    print(f"{name}: {_COUNT} changed, {refused} refused, {slowest:.2f} s at most")
    assert refused > 0
    assert slowest < _SECONDS
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([name, *kind.beside])


def _png(width, height):
    """A picture that says it is this large, in a few bytes."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")  # fmt: skip


def _nested(depth):
    return b"[" * depth + b"]" * depth


def _with_mask(segmentation, size=(80, 60)):
    """An annotation file with one mask."""
    height, width = size
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "keypoints": [10, 10, 2] * 17, "num_keypoints": 17,
        "bbox": [1, 1, 20, 20], "area": 100, "segmentation": segmentation,
    }  # fmt: skip
    image = {"id": 1, "file_name": "a.jpg", "height": height, "width": width}
    return json.dumps({"images": [image], "annotations": [person], "categories": [{"id": 1, "name": "person"}]}).encode()  # fmt: skip


def _zip_bomb():
    """A PyTorch checkpoint of 64 MiB of zeros in 64 kB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**26))
    return buffer.getvalue()


def _gzip_bomb():
    """400 MB of spaces in 400 kB."""
    return gzip.compress(b" " * (400 * 2**20), 1)


_BOMBS = {
    "gzipped annotations": ("annotations.json", _gzip_bomb),
    "picture of 10^10 pixels": ("photo.png", lambda: _png(100_000, 100_000)),
    "picture of 2^62 pixels": ("photo.png", lambda: _png(2**31 - 1, 2**31 - 1)),
    "annotations nested 10^5 deep": ("annotations.json", lambda: _nested(10**5)),
    "results nested 10^5 deep": ("results.json", lambda: _nested(10**5)),
    "templates nested 10^5 deep": ("templates.json", lambda: _nested(10**5)),
    "run nested 10^5 deep": ("run.json", lambda: _nested(10**5)),
    "OCHuman nested 10^5 deep": ("ochuman.json", lambda: _nested(10**5)),
    "RLE of 10^12 pixels": ("annotations.json", lambda: _with_mask({"size": [80, 60], "counts": [10**12]})),
    "RLE of a larger image": ("annotations.json", lambda: _with_mask({"size": [10**6, 10**6], "counts": [10**12]})),
    "image of 10^12 pixels": ("annotations.json", lambda: _with_mask({"size": [10**6, 10**6], "counts": [10**12]}, (10**6, 10**6))),
    "compressed RLE of 10^12 pixels": ("annotations.json", lambda: _with_mask({"size": [80, 60], "counts": "P" * 10**6})),
    "polygon to 10^12": ("annotations.json", lambda: _with_mask([[0, 0, 1e12, 0, 1e12, 1e12]])),
    "weights whose header says 2^60 bytes": ("w.safetensors", lambda: struct.pack("<Q", 2**60) + b"{}"),
    "checkpoint of zeros": ("new.pth", _zip_bomb),
}  # fmt: skip


@pytest.mark.parametrize("what", _BOMBS)
def test_what_would_fill_the_memory_is_refused_at_once(kinds, what, tmp_path, caplog):
    """By an error, or, where it is one person of many, by a warning that counts it."""
    import resource

    name, make = _BOMBS[what]
    path = tmp_path / name
    path.write_bytes(make())
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    said = ""
    try:
        kinds[name].read(path)
    except UserError as error:
        said = str(error)
    assert name in said or f"{name}: skipped 1 annotations" in caplog.text
    assert time.monotonic() - start < _SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024  # KiB


def test_poses_that_are_nested_deep_are_refused(tmp_path):
    path = tmp_path / "poses.json"
    path.write_bytes(_nested(10**5))
    with pytest.raises(UserError, match=r"poses\.json"):
        read_poses(path, [tmp_path / "photo.jpg"], 0.3)
