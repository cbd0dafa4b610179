"""Data, weights and results in a bucket, for which a file system in memory stands in."""

import json

import numpy as np
import pytest
from conftest import run_mode, tiny_weights, write_coco
from etils import epath
from etils.epath import gpath
from etils.epath.backend import fsspec_backend
from fsspec.implementations.memory import MemoryFileSystem

from pose2seg_jax import paths
from pose2seg_jax.people import coco
from pose2seg_jax.weights import files as weights
from pose2seg_jax.weights.files import WeightsError


class _Bucket(MemoryFileSystem):
    """Files of gs://."""

    protocol = "gs"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs: list = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("gs://"))


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A bucket with data in COCO's layout."""
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.setattr(type(fsspec_backend), "_get_filesystem", lambda self, name: _Bucket())
    _Bucket.store.clear()
    write_coco(tmp_path, {"val2017": [1, 2]})
    root = epath.Path("gs://bucket/coco")
    for file in tmp_path.rglob("*"):
        if file.is_file():
            target = root / file.relative_to(tmp_path).as_posix()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    return epath.Path("gs://bucket")


@pytest.mark.usefixtures("quick_compile")
def test_a_network_is_scored_in_a_bucket(bucket, capsys):
    weights.save(bucket / "tiny.safetensors", tiny_weights())
    places = {"weights": "gs://bucket/tiny.safetensors", "output": "gs://bucket/out/results.json"}
    run_mode("eval", None, {"dataset.coco_dir": "gs://bucket/coco"}, **places)
    assert "COCOHUMAN (3 persons)" in capsys.readouterr().out
    assert len(json.loads((bucket / "out/results.json").read_text())) == 3


def test_weights_in_a_bucket_are_those_that_were_written(bucket):
    made = tiny_weights()
    weights.save("gs://bucket/w/tiny.safetensors", made)
    assert weights.load("gs://bucket/w/tiny.safetensors").fingerprint() == made.fingerprint()
    (bucket / "w/broken.safetensors").write_bytes(b"no network")
    with pytest.raises(WeightsError, match=r"gs://bucket/w/broken\.safetensors: is truncated"):
        weights.load("gs://bucket/w/broken.safetensors")
    with pytest.raises(WeightsError, match=r"gs://bucket/w/gone\.safetensors: cannot be read"):
        weights.load("gs://bucket/w/gone.safetensors")


def test_annotations_are_read_from_a_bucket(bucket):
    dataset = coco.read(bucket / "coco/annotations/person_keypoints_val2017.json")
    assert len(dataset.persons()) == 3
    assert np.all(np.isfinite(dataset.persons()[0].pose))


def test_files_are_written_into_a_bucket(bucket):
    paths.write_atomically("gs://bucket/run/run.json", "{}")
    assert (bucket / "run/run.json").read_text() == "{}"
