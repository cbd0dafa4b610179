"""The command `pose2seg`: photos as arguments, no configs/ needed, and what it says."""

import json
import os
import subprocess
import sys

import ml_collections
import numpy as np
import PIL.Image
import pytest
from conftest import ROOT, standing_pose, tiny_weights

from configs import coco_human
from pose2seg_jax.prediction.defaults import defaults_of_prediction
from pose2seg_jax.program import command
from pose2seg_jax.weights import files as weights


def test_the_settings_are_those_of_the_config():
    config = coco_human.get_config().to_dict()
    ours = ml_collections.ConfigDict(defaults_of_prediction()).to_dict()
    assert ours == {name: config[name] for name in ours}


@pytest.fixture
def places(tmp_path):
    PIL.Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    PIL.Image.new("RGB", (50, 40)).save(tmp_path / "b.png")
    np.savez(
        tmp_path / "poses.npz", a=standing_pose(5, 5, 30)[None], b=standing_pose(9, 5, 30)[None]
    )
    weights.save(tmp_path / "tiny.safetensors", tiny_weights())
    return tmp_path


def _run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["pose2seg", *map(str, arguments)])
    command.main()


@pytest.mark.usefixtures("quick_compile")
def test_photos_are_arguments(places, monkeypatch, capsys):
    (places / "configs").mkdir()  # of somebody else's program
    (places / "configs/coco_human.py").write_text("raise RuntimeError")
    monkeypatch.chdir(places)
    _run(
        monkeypatch, places / "a.png", places / "b.png", f"--poses={places / 'poses.npz'}", f"--output={places / 'out'}",
        f"--weights={places / 'tiny.safetensors'}", "--config.prediction.exclusive=true", "--write=coco,labels", "--quiet",
    )  # fmt: skip
    assert "2 masks written to" in capsys.readouterr().out
    assert len(json.loads((places / "out/results.json").read_text())) == 2
    assert (places / "out/a.png_labels.png").exists()


def test_the_help_fits_a_screen(monkeypatch, capsys):
    for arguments in ([], ["--help"]):
        _run(monkeypatch, *arguments)
        said = capsys.readouterr().out
        assert len(said.splitlines()) <= 30
        assert max(map(len, said.splitlines())) <= 100
    for name in ("poses", "output", "write", "overwrite", "skeleton", "weights", "quiet"):
        assert f"--{name}" in said
    for kind in ("coco", "polygons", "overlay", "labels", "cutouts"):
        assert f"       {kind} " in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--poses=p.json"], "needs --output"),
        (["a.png", "--poses=p.json", "--output="], "--output is empty"),
        (["--mode=eval"], "pose2seg predicts"),
        (["no.png", "--poses=p.json", "--output=o"], "no.png: does not exist"),
        (["a.png", "--poses=p.json", "--output=o", "--write=masks"], "--write=masks: is unknown"),
        (["a.png", "--poses=p.json", "--output=o", "--write="], "--write"),
        (["a.png", "--poses=p.json", "--output=o", "--config.prediction.flop=1"], "flop"),
        (["a.png", "--poses=p.json", "--output=b.png"], "is a file"),
    ],
)
def test_mistakes_are_one_line(places, monkeypatch, arguments, message):
    monkeypatch.chdir(places)
    with pytest.raises(SystemExit) as stopped:
        _run(monkeypatch, *arguments)
    assert message in str(stopped.value.code)
    assert "\n" not in str(stopped.value.code).strip()


def test_the_script_is_installed_with_the_package(places):
    """As `pip install` makes it: the entry point of pyproject.toml."""
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["pose2seg"].split(":")
    run = subprocess.run(
        [sys.executable, "-c", f"import {module} as m; m.{function}()", "a.png"],
        cwd=places, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.strip() == "error: --mode=predict needs --output."
