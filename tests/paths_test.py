"""Paths as users write them, and files that appear when they are complete."""

import pytest
from etils import epath

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError, run_program


def test_a_tilde_is_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(paths.resolve("~/run")) == "/home/somebody/run"
    assert str(paths.local("~/run", "x")) == "/home/somebody/run"
    with pytest.raises(UserError, match="no such home directory"):
        paths.resolve("~nobody-of-this-name/run")


def test_buckets_stay_buckets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(paths.resolve("gs://bucket/run"), epath.Path)
    assert str(paths.absolute("gs://bucket/run")) == "gs://bucket/run"
    with pytest.raises(UserError, match="a photo must be on this machine"):
        paths.local("gs://bucket/w", "a photo")
    with pytest.raises(UserError, match="expected a local path, or one of gs://"):
        paths.resolve("http://x/run")

    def fail(*_, **__):
        raise ImportError("install a library for buckets")

    monkeypatch.setattr(type(paths.resolve("gs://bucket/run")), "mkdir", fail)
    with pytest.raises(UserError, match="--workdir=gs://bucket/run: cannot be made: install a"):
        paths.make_directory("gs://bucket/run", "--workdir")
    assert not list(tmp_path.iterdir())  # no folder "gs:"


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.json"
    other = tmp_path / "a.json.partial"  # of another process
    other.write_text("half")
    paths.write_atomically(path, "first")
    paths.write_atomically(path, b"second")
    assert path.read_text() == "second"
    assert other.read_text() == "half"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.json.partial"]
    with pytest.raises(UserError, match="cannot be written"):
        paths.write_atomically(tmp_path / "no/a.json", "x")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("what and where"), "error: what and where"),
        (FileNotFoundError(2, "No such file", "/x"), "error: /x: No such file"),
        (ModuleNotFoundError("no", name="sklearn"), "error: the package sklearn is missing"),
    ],
)
def test_a_program_ends_with_one_line(error, line):
    def fail():
        raise error

    with pytest.raises(SystemExit, match=line):
        run_program(fail)
