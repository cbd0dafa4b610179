"""A prediction that is killed again and again loses nothing and does nothing twice."""

import json
import os
import random
import subprocess
import sys
import time

import numpy as np
import PIL.Image
from conftest import ROOT, quick_environment, standing_pose, tiny_weights

from pose2seg_jax.weights import files as weights

_PHOTOS = 60
_KILLS = int(os.environ.get("POSE2SEG_KILLS", "4"))


def test_killed_at_any_moment(tmp_path):
    """By SIGKILL, from the first photo on; `POSE2SEG_KILLS=20` kills more often."""
    rng = np.random.RandomState(0)
    (tmp_path / "photos").mkdir()
    poses = {}
    for number in range(_PHOTOS):
        picture = rng.randint(0, 255, (240, 320, 3)).astype(np.uint8)
        PIL.Image.fromarray(picture).save(tmp_path / f"photos/{number:03}.png")
        poses[f"{number:03}"] = np.stack([standing_pose(20 + 10 * k, 10, 200) for k in range(1 + number % 3)])  # fmt: skip
    np.savez(tmp_path / "poses.npz", **poses)
    weights.save(tmp_path / "tiny.safetensors", tiny_weights())
    command = [
        sys.executable, str(ROOT / "main.py"), "--mode=predict", f"--image={tmp_path / 'photos'}",
        f"--poses={tmp_path / 'poses.npz'}", f"--weights={tmp_path / 'tiny.safetensors'}",
    ]  # fmt: skip
    environment = quick_environment()
    whole = [*command, f"--output={tmp_path / 'whole'}"]
    subprocess.run(whole, env=environment, check=True, capture_output=True)
    expected = json.loads((tmp_path / "whole/results.json").read_text())

    chance = random.Random(0)
    output = tmp_path / "out"
    command = [*command, f"--output={output}"]
    killed = 0
    for attempt in range(_KILLS):
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
        before = len(list(output.glob("*_overlay.png")))
        while len(list(output.glob("*_overlay.png"))) == before and run.poll() is None:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2 / (attempt + 4)))
        killed += run.poll() is None
        run.kill()
        assert "Traceback" not in run.communicate()[1]
    assert killed
    # As one that is killed within a write leaves it; and a file of somebody else.
    (output / f".000.png_overlay.png.{'0' * 32}.partial").write_bytes(b"half")
    (output / ".mine.partial").write_bytes(b"")
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert json.loads((output / "results.json").read_text()) == expected
    assert len(list(output.glob("*_overlay.png"))) == _PHOTOS
    assert [file.name for file in output.glob(".*.partial")] == [".mine.partial"]
