"""The programs in examples/, with the network of the package."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest
from browser import needs_browser, open_browser
from conftest import ROOT, quick_environment
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from pose2seg_jax.prediction.predictor import Pose2SegPredictor

_PAGE = ROOT / "examples/onnx/page"
_WEB = _PAGE / "node_modules"
_SURFERS = ROOT / "examples/surfers.jpg"
_READ = """
const done = arguments[arguments.length - 1];
const find = async () => {
  const { findMasks } = await import(new URL("masks.js", document.baseURI));
  return Array.from((await findMasks(await createImageBitmap(document.querySelector("input").files[0]))).labels);
};
find().then(done, (error) => done(String(error)));
"""


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """The folder that `--mode=export --format=onnx` writes."""
    folder = tmp_path_factory.mktemp("onnx") / "export"
    command = [sys.executable, str(ROOT / "main.py"), "--mode=export", "--format=onnx"]
    subprocess.run([*command, f"--output={folder}"], env=quick_environment(), check=True)
    return folder


@pytest.fixture(scope="module")
def labels(export):
    """The label map that examples/onnx/masks.py writes."""
    output = export.with_name("masks.png")
    command = [sys.executable, str(ROOT / "examples/onnx/masks.py"), export, _SURFERS, output]
    subprocess.run(list(map(str, command)), check=True)
    return np.asarray(PIL.Image.open(output))


def test_the_python_example_draws_the_masks_of_the_predictor(labels):
    result = Pose2SegPredictor.load()(_SURFERS)
    for number, mask in enumerate(result.masks, 1):
        assert np.mean(mask != (labels == number)) < 1e-4  # rounding
    assert labels.max() == len(result.masks) > 3


def test_the_python_example_says_that_nobody_is_there(export, tmp_path):
    PIL.Image.new("RGB", (300, 200)).save(tmp_path / "black.png")
    files = export, tmp_path / "black.png", tmp_path / "masks.png"
    command = [sys.executable, ROOT / "examples/onnx/masks.py", *files]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    assert done.stdout.startswith("nobody was found")
    assert not np.asarray(PIL.Image.open(tmp_path / "masks.png")).any()


@pytest.fixture
def page(export, tmp_path):
    """The address of a folder with the page and all that it needs."""
    shutil.copytree(_PAGE, tmp_path / "page", ignore=shutil.ignore_patterns("node_modules"))
    os.symlink(_WEB, tmp_path / "page/node_modules")
    os.symlink(export, tmp_path / "page/export")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "page")
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@needs_browser
@pytest.mark.skipif(not _WEB.is_dir(), reason="npm install onnxruntime-web in examples/onnx/page")
def test_the_page_draws_about_the_same_masks(page, labels, tmp_path):
    driver = open_browser(tmp_path)
    try:
        driver.set_script_timeout(120)
        driver.get(page)
        said = lambda: driver.find_element(By.ID, "said").text  # noqa: E731
        wait = WebDriverWait(driver, 120)
        wait.until(lambda _: said().startswith("Choose a photo"))
        driver.find_element(By.CSS_SELECTOR, "input").send_keys(str(_SURFERS))
        wait.until(lambda _: said() == f"People found: {labels.max()}.")
        found = driver.execute_async_script(_READ)
        assert not isinstance(found, str), found
        events = [
            json.loads(entry["message"])["message"] for entry in driver.get_log("performance")
        ]
    finally:
        driver.quit()
    found = np.asarray(found, np.uint8).reshape(labels.shape)
    for number in range(
        1, labels.max() + 1
    ):  # in an order of its own: two people are about as sure
        theirs = labels == number
        mine = found == np.bincount(found[theirs]).argmax()
        assert np.sum(mine & theirs) > 0.9 * np.sum(mine | theirs), number
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    asked = [url for url in asked if url.startswith("http")]
    assert len(asked) > 5
    assert all(url.startswith(page) for url in asked)  # the photo does not leave the computer
