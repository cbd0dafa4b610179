"""Ray's workers, one of which is killed, give what one process gives."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT, photos_with_poses, quick_environment, run_mode, standing_pose

from benchmarks import rows
from pose2seg_jax.errors import UserError

pytest.importorskip("ray")
_COUNT = 120


def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    poses = {f"{number:03}": standing_pose(5 + number, 5, 300) for number in range(_COUNT)}
    places = photos_with_poses(tmp_path, poses, (500, 400))
    (tmp_path / "photos/broken.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit):
        run_mode("predict", **places | {"output": tmp_path / "alone"})

    arguments = [f"--{name}={path}" for name, path in places.items()]  # fmt: skip
    # Paths are relative to where the command is given.
    arguments = [argument.replace(f"{tmp_path}/", "") for argument in arguments]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), "--mode=predict", *arguments, "--engine=ray", "--workers=2"],
        cwd=tmp_path, env=quick_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        victim = _busy_worker(tmp_path / "out", process)
        os.kill(victim, signal.SIGKILL)
        out, error = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 2, error
    assert error.count("broken.png: is no readable image") == 1
    assert f"workers did {_COUNT} of {_COUNT + 1} photos" in out
    lines = [line for line in error.splitlines() if "Set ray log level" not in line]
    assert len(lines) == 2, error  # that photo, and how many were skipped
    alone, shared = tmp_path / "alone", tmp_path / "out"
    assert (alone / "results.json").read_bytes() == (shared / "results.json").read_bytes()
    assert len(list(shared.glob("*_overlay.png"))) == _COUNT
    workers = {journal.name.split("-")[2] for journal in shared.glob("job-worker-*.jsonl")}
    assert str(victim) in workers
    assert len(workers) >= 3  # another was started


def _busy_worker(output, process):
    """The number of a worker's process that has done some photos."""
    until = time.monotonic() + 200
    while time.monotonic() < until and process.poll() is None:
        for journal in output.glob("job-worker-*.jsonl"):
            if (
                sum("photo" in json.loads(line) for line in journal.read_text().splitlines()[:-1])
                > 2
            ):
                return int(journal.name.split("-")[2])
        time.sleep(0.05)
    raise AssertionError(process.communicate(timeout=10))


def test_the_example_writes_the_masks_of_all_photos(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("surfers.jpg", "tennis_couple.jpg"):
        (photos / name).write_bytes((ROOT / "examples" / name).read_bytes())
    (photos / "broken.png").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("no photo")
    command = [sys.executable, ROOT / "examples/ray/masks.py", photos, tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), env=quick_environment(PYTHONPATH=str(ROOT)), cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "broken.png" in done.stdout
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert {entry["image_id"] for entry in results} == {"surfers.jpg", "tennis_couple.jpg"}
    assert len(results) == 7


def test_a_photo_that_kills_its_workers_is_left_to_the_command(tmp_path):
    """And a picture of others is replaced by --overwrite."""
    places = photos_with_poses(tmp_path, {name: standing_pose(5, 5, 30) for name in "abc"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/c.png_overlay.png").write_text("mine")
    # A module that Python imports as it starts: the workers' processes end where they open b.png.
    (tmp_path / "sitecustomize.py").write_text(_KILLER)
    arguments = [f"--{name}={path}" for name, path in places.items()]
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--mode=predict", *arguments, "--engine=ray", "--overwrite"],
        env=quick_environment(PYTHONPATH=str(tmp_path)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "workers could not do 3 photos; they are done here" in done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [entry["image_id"] for entry in results] == ["a", "b", "c"]
    assert (tmp_path / "out/c.png_overlay.png").read_bytes() != b"mine"


def test_an_address_where_no_ray_answers_is_named(tmp_path, monkeypatch):
    places = photos_with_poses(tmp_path, {"a": standing_pose(5, 5, 30)})
    address = rows.free_address()
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=f"RAY_ADDRESS={address}: nothing answers there"):
        run_mode("predict", **places, engine="ray")


def test_workers_that_cannot_start_end_the_command(tmp_path):
    places = photos_with_poses(tmp_path, {"a": standing_pose(5, 5, 30)})
    (tmp_path / "sitecustomize.py").write_text(_BROKEN)
    arguments = [f"--{name}={path}" for name, path in places.items()]
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "--mode=predict", *arguments, "--engine=ray"],
        env=quick_environment(PYTHONPATH=str(tmp_path)), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: --engine=ray: its workers failed: ImportError: no such library")


# A module that Python imports as it starts: what the workers' processes import is not there.
_BROKEN = """
import sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pose2seg_jax.program.modes" and not sys.argv[0].endswith("main.py"):
            raise ImportError("no such library")
        return None

sys.meta_path.insert(0, Finder)
"""

_KILLER = """
import os, sys
from importlib import machinery

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pose2seg_jax.program.predict" and not sys.argv[0].endswith("main.py"):
            sys.meta_path.remove(Finder)
            from pose2seg_jax.people import images
            import pose2seg_jax.program.pose_source as source
            opened = source.open_image
            def open_image(path, *rest):
                if str(path).endswith("b.png"):
                    os._exit(1)
                return opened(path, *rest)
            source.open_image = open_image
        return None

sys.meta_path.insert(0, Finder)
"""
