"""The program as a user runs it, from another directory: train, evaluate, predict."""

import json
import subprocess
import sys
import tempfile

import PIL.Image
import pytest
from conftest import ROOT, quick_environment, tiny_flags
from pycocotools.coco import COCO

from pose2seg_jax.evaluation import results_files
from pose2seg_jax.people import coco


def _command(*arguments):
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    return {"args": command, "cwd": tempfile.gettempdir(), "env": quick_environment(), "text": True}


def _run(*arguments, tensorflow=True):
    command = _command(*arguments)
    if not tensorflow:  # as on a machine without it
        script = "import sys, runpy; sys.modules['tensorflow'] = None; runpy.run_path(sys.argv[0], run_name='__main__')"
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = sys.argv[1:]; {script}"
        command["args"][1:1] = ["-c", script]
    return subprocess.run(**command, capture_output=True, check=False)


def test_trained_evaluated_and_predicted(coco_dir, tmp_path):
    workdir = tmp_path / "run"
    options = [
        "--config=configs/coco_human_small.py",
        "--config.optimizer.schedule=step",
        *tiny_flags(panels_every=4),
        f"--workdir={workdir}",
        f"--config.dataset.coco_dir={coco_dir}",
        f"--config.dataset.data_dir={tmp_path / 'tfds'}",
    ]
    trained = _run(*options, "--config.num_steps=3")
    assert trained.returncode == 0, trained.stderr
    assert "step 3/3  " in trained.stdout
    assert "left" in trained.stdout
    assert "COCOHUMAN (12 persons)" in trained.stdout
    assert any(workdir.glob("events.out.tfevents*"))

    # The run says what it is: its directory alone is enough.
    evaluated = _run(f"--workdir={workdir}", "--mode=eval")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "12 masks written to" in evaluated.stdout
    truth = COCO(str(coco_dir / "annotations/person_keypoints_val2017.json"))
    assert len(truth.loadRes(str(workdir / "results.json")).anns) == 12
    dataset = coco.read(coco_dir / "annotations/person_keypoints_val2017.json")
    assert (
        "others ignored" in results_files.evaluate_file(dataset, workdir / "results.json").table()
    )

    annotations = coco_dir / "annotations/person_keypoints_val2017.json"
    (coco_dir / "val2017/broken.jpg").write_bytes(b"")
    predicted = _run(
        f"--workdir={workdir}", "--mode=predict", f"--image={coco_dir / 'val2017'}", f"--poses={annotations}",
        f"--output={tmp_path / 'out'}", "--checkpoint=best", tensorflow=False,
    )  # fmt: skip
    assert predicted.returncode == 2, predicted.stderr  # a part was skipped
    assert "broken.jpg: is no readable image" in predicted.stderr
    assert "skipped 1 of 6 photos" in predicted.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert len(results) == 12
    # Prediction and evaluation are the same computation.
    before = {
        (r["image_id"], r["segmentation"]["counts"])
        for r in json.loads((workdir / "results.json").read_text())
    }
    after = {(r["image_id"], r["segmentation"]["counts"]) for r in results}
    assert len(before & after) >= 10
    overlays = sorted((tmp_path / "out").glob("*_overlay.png"))
    assert len(overlays) == 5
    with PIL.Image.open(overlays[0]) as overlay:
        assert overlay.size in ((160, 120), (112, 144))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.batchsize=8"], 'Did you mean "batch_size"'),
        (
            ["--mode=eval", "--workdir=/nowhere"],
            "/nowhere/run.json: is missing: no run was started",
        ),
        (
            ["--mode=templates", "--annotations=/nowhere.json", "--output=x"],
            "/nowhere.json: cannot",
        ),
        (["--mode=eval", "--config.model.image_size=512"], "image_size: 640, 512"),
        (["--config=/nowhere.py"], "--config=/nowhere.py: is no file"),
        (
            ["--config={raises}"],
            "{raises}, line 1: could not be read: RuntimeError('as it happens')",
        ),
        (["--workdir={file}", "--config.dataset.coco_dir={coco}"], "--workdir={file}: is a file"),
        (
            ["--mode=predict", "--image={coco}", "--poses=x", "--output={file}"],
            "--output={file}: is a file",
        ),
        (["--mode=export_weights", "--workdir=x", "--output={folder}"], "{folder}: is a directory"),
        (
            ["--image=a.png", "--poses=b", "--output=c"],
            "--image has no effect in --mode=train; it is for --mode=predict",
        ),
        (["--workdir=hdfs://run"], "hdfs://run: expected a local path, or one of gs://"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_get_one_clear_line(arguments, message, tmp_path, coco_dir):
    names = {"file": tmp_path / "file", "raises": tmp_path / "raises.py", "folder": tmp_path}
    names["coco"] = coco_dir
    names["file"].write_text("")
    names["raises"].write_text("raise RuntimeError('as it happens')")
    result = _run(*(argument.format(**names) for argument in arguments))
    assert result.returncode == 1
    assert message.format(**names) in result.stderr
    assert "Traceback" not in result.stderr


def test_a_home_that_cannot_be_written_is_named(coco_dir, tmp_path):
    (tmp_path / "home").write_text("a file")
    command = _command(
        "--config=configs/coco_human_small.py", *tiny_flags(), f"--workdir={tmp_path / 'run'}",
        f"--config.dataset.coco_dir={coco_dir}",
    )  # fmt: skip
    command["env"] = command["env"] | {"HOME": str(tmp_path / "home")}
    command["env"].pop("TFDS_DATA_DIR", None)
    result = subprocess.run(**command, capture_output=True, check=False)
    assert result.returncode == 1
    assert "--config.dataset.data_dir" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_platform_that_is_not_there_is_named(tmp_path, coco_dir):
    command = _command("--mode=eval", f"--config.dataset.coco_dir={coco_dir}")
    command["env"] = command["env"] | {"JAX_PLATFORMS": "cuda"}
    result = subprocess.run(**command, capture_output=True, check=False)
    assert result.returncode == 1
    assert "error: JAX_PLATFORMS=cuda: JAX finds no such device" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_lists_the_modes():
    result = _run("--help")
    assert result.returncode == 0
    for mode in ("train", "eval", "predict", "report", "export_weights", "convert_weights"):
        assert f"--mode={mode} " in result.stdout
