"""What a newcomer runs: the README's commands and Python, as they stand there, and the notebook.

Only sizes are shortened: `python` on the PATH adds flags for a tiny network and a few steps.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import PIL.Image
import pytest
from conftest import ROOT, quick_environment, tiny_flags, write_coco

_TINY = tiny_flags(num_steps=2)
_FEW = ["--config.dataset.synthetic.train=8", "--config.dataset.synthetic.validation=4"]
_PYTHON = """#!{python}
import os, sys
arguments = sys.argv[1:]
if arguments[:1] in (["main.py"], ["benchmarks/compare.py"]):
    trains = not any(argument.startswith(("--mode=", "--weights=")) for argument in arguments)
    if trains:  # the other modes take the network of a run, of a file or of the package
        arguments += {tiny}
    if "compare" in arguments[0] or any("synthetic" in argument for argument in arguments):
        arguments = [a for a in arguments if "branch.depth" not in a]  # theirs is the paper's
        arguments += {few}
os.execv({python!r}, [{python!r}, *arguments])
"""


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A copy of the repository with data at hand, and the environment to run in."""
    root = tmp_path_factory.mktemp("newcomer")
    clone = root / "clone"
    ignored = shutil.ignore_patterns(".*", "runs", "*.egg-info", "__pycache__", "node_modules")
    shutil.copytree(ROOT, clone, ignore=ignored)
    write_coco(clone / "COCO", {"train2017": [1, 2, 1, 1], "val2017": [2, 1]})
    shutil.copy(ROOT / "examples/tennis_couple.jpg", clone / "photo.jpg")  # of two people
    poses = np.abs(np.random.RandomState(0).randn(2, 17, 3)) * [20, 20, 0] + [30, 30, 2]
    np.save(clone / "poses.npy", poses)
    keypoints = [{"image_id": "photo", "category_id": 1, "keypoints": pose.ravel().tolist(), "score": 1} for pose in poses]  # fmt: skip
    (clone / "poses.json").write_text(json.dumps(keypoints))

    binaries = root / "venv" / "bin"
    binaries.mkdir(parents=True)
    shim = binaries / "python"
    shim.write_text(_PYTHON.format(python=sys.executable, tiny=_TINY, few=_FEW))
    shim.chmod(0o755)
    # As pip makes it from the entry point in pyproject.toml.
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, entry in scripts.items():
        module, function = entry.split(":")
        lines = (
            f"#!{sys.executable}",
            "import sys",
            f"sys.path.insert(0, {str(clone)!r})",
            f"from {module} import {function}",
            f"{function}()",
        )
        (binaries / name).write_text("\n".join(lines))
        (binaries / name).chmod(0o755)
    (root / "venv/installed").touch()  # newer than the requirements: nothing is installed
    # A make that runs the tests would hand its own VENV down.
    path = f"{binaries}:{os.environ['PATH']}"
    environment = quick_environment(PATH=path, VENV=str(root / "venv"))
    for name in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL"):
        environment.pop(name, None)
    return clone, environment


def _run(command, newcomer, **changes):
    clone, environment = newcomer
    done = subprocess.run(
        command, cwd=clone, env=environment | changes, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_commands_and_the_python_of_the_readme(newcomer):
    clone, _ = newcomer
    commands = [line for block in _blocks("bash") for line in block.splitlines()]
    assert len(commands) >= 9
    # What is installed and activated is in the newcomer's PATH already.
    assert commands[0] == "pip install ."
    assert commands[1].startswith("python main.py --mode=predict --image=examples ")
    for done in ("pip install .", ". .venv/bin/activate"):
        commands.remove(done)
    printed = {command: _run(["bash", "-c", command], newcomer) for command in commands}
    demo = printed["make demo"].splitlines()
    page = next(
        i for i, line in enumerate(demo) if line == "page with pictures: runs/demo/index.html"
    )
    assert demo[page + 1].startswith("data  ")  # and the table is all that follows
    assert demo[-1].startswith("mean IoU")
    html = (clone / "runs/demo/index.html").read_text()
    assert html.count("data:image/jpeg;base64,") > 4
    assert html.count("<svg") >= 3 + 3 + 2
    # It opens offline.
    assert all(
        link.startswith(("data:", "#")) for link in re.findall(r'(?:src|href)="([^"]*)"', html)
    )
    assert len(json.loads((clone / "runs/masks/results.json").read_text())) == 7
    assert (clone / "runs/masks/surfers.jpg_overlay.png").exists()
    assert (clone / "runs/photo/photo.jpg_overlay.png").exists()
    assert len(json.loads((clone / "runs/photo/results.json").read_text())) == 2
    assert (clone / "runs/given/photo.jpg_overlay.png").exists()
    compared = printed["make compare"].splitlines()
    for method in (
        "pose alignment",
        "box alignment",
        "box alignment, NMS at 0.5",
        "capsules, no image",
    ):
        assert any(line.startswith("COCOHUMAN (") and f"  {method}  " in line for line in compared)
    assert any("pose over box with NMS" in line for line in compared)
    # The same network from its checkpoint and from its file.
    tables = [out for command, out in printed.items() if "--mode=eval" in command]
    assert tables[0][tables[0].index("data  ") :] == tables[1][tables[1].index("data  ") :]

    without_tensorflow = "import sys; sys.modules['tensorflow'] = None\n"
    api, parts = _blocks("python")
    assert _run(["python", "-c", without_tensorflow + api], newcomer).startswith("(2, ")
    with PIL.Image.open(clone / "person.png") as cut_out:
        assert cut_out.mode == "RGBA"
    _run(
        ["python", "-c", without_tensorflow + parts + "assert rois.shape == (2, 64, 64, 3)"],
        newcomer,
    )


def test_the_notebook_runs_from_top_to_bottom(newcomer):
    notebook = json.loads((ROOT / "notebooks/quickstart.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    script = "\n\n".join("".join(cell["source"]) for cell in cells)
    out = _run(
        ["python", "-c", script],
        newcomer,
        QUICKSTART_STEPS="2",
        QUICKSTART_IMAGES="16",
        QUICKSTART_FRAMES="3",
    )
    assert (newcomer[0] / "runs/notebook/video/pan.mp4_overlay.mp4").exists()
    assert "model.safetensors" in out
    assert re.search(r"^\(\d+, \d+, \d+\) \[0?\.", out, re.M)
