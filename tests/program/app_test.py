"""The page in a browser: open, move a joint, see the mask change, add a person, download."""

import json
import socket
import subprocess
import sys
import time
import zipfile

import numpy as np
import PIL.Image
import pytest
from browser import needs_browser, open_browser
from conftest import ROOT, quick_environment
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = needs_browser
_SURFERS = ROOT / "examples/surfers.jpg"  # the photo that the page begins with


@pytest.fixture(scope="module")
def address():
    """The page of the network of the package."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = quick_environment(GRADIO_SERVER_PORT=str(port))
    command = [sys.executable, str(ROOT / "main.py"), "--mode=app"]
    page = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and page.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    else:
        raise AssertionError(page.communicate()[1])
    yield f"http://127.0.0.1:{port}"
    page.terminate()
    page.communicate()


class _Browser:
    def __init__(self, address, downloads):
        self.driver = open_browser(downloads)
        self.driver.get(address)
        self.wait_for("Masks in")

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def said(self):
        found = self.driver.find_elements(By.CSS_SELECTOR, "#said")
        return found[0].text if found else ""

    def wait_for(self, text):
        WebDriverWait(self.driver, 120, ignored_exceptions=(Exception,)).until(
            lambda driver: text in self.said(), f"{text}; the page says: {self.said()}"
        )

    def shown(self):
        """The address of the picture that is shown, another one for every other picture."""
        return self.find("#picture img").get_attribute("src")

    def click_picture(self, x, y):
        """Clicks a pixel of the picture."""
        image = self.find("#picture img")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", image)
        width, height = (int(image.get_property(n)) for n in ("naturalWidth", "naturalHeight"))
        # The picture is in the middle of its element, as large as fits.
        scale = min(image.size["width"] / width, image.size["height"] / height)
        at = ((x - width / 2) * scale, (y - height / 2) * scale)
        ActionChains(self.driver).move_to_element_with_offset(image, *at).click().perform()

    def upload(self, selector, path):
        self.find(f"{selector} input[type=file]").send_keys(str(path))


@pytest.fixture
def browser(address, tmp_path):
    opened = _Browser(address, tmp_path)
    yield opened
    opened.driver.quit()


def _nose(image_id):
    content = json.loads((ROOT / "examples/poses.json").read_text())
    persons = [a for a in content["annotations"] if a["image_id"] == image_id]
    return max(persons, key=lambda a: a["keypoints"][0])["keypoints"][:2]  # the one at the right


def test_a_joint_is_moved_and_the_mask_follows(browser, tmp_path):
    names = {i["file_name"]: i["id"] for i in json.loads((ROOT / "examples/poses.json").read_text())["images"]}  # fmt: skip
    x, y = _nose(names["surfers.jpg"])
    assert browser.said().startswith("5 people.")
    browser.click_picture(x, y)
    browser.wait_for("Now click where the")
    before = browser.shown()
    browser.click_picture(x - 60, y + 150)
    WebDriverWait(browser.driver, 60).until(lambda _: "Now click" not in browser.said())
    assert browser.shown() != before
    assert browser.said().startswith("5 people.")
    WebDriverWait(browser.driver, 60).until(lambda _: browser.find("#panel img"))

    browser.find("#remove").click()
    browser.wait_for("4 people.")
    browser.find("#make").click()
    links = WebDriverWait(browser.driver, 60).until(
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "#files a")
    )
    for link in links:
        browser.driver.execute_script("arguments[0].click()", link)
    wanted = ("surfers.json", "surfers_labels.png", "surfers_cutouts.zip")
    WebDriverWait(browser.driver, 60).until(
        lambda _: all((tmp_path / name).exists() for name in wanted)
    )
    entries = json.loads((tmp_path / "surfers.json").read_text())
    assert len(entries) == 4
    with PIL.Image.open(_SURFERS) as photo, PIL.Image.open(tmp_path / "surfers_labels.png") as map_:
        assert map_.size == photo.size
    with zipfile.ZipFile(tmp_path / "surfers_cutouts.zip") as archive:
        assert all(name.startswith("surfers_person") for name in archive.namelist())


def test_a_person_is_added_and_a_pose_file_read(browser):
    browser.find("#add").click()
    browser.wait_for("Click the nose")
    for part, (x, y) in (("left eye", (60, 60)), ("right eye", (80, 50)), ("left ear", (50, 50))):
        browser.click_picture(x, y)
        browser.wait_for(f"Next: {part}")
    assert browser.said().startswith("6 people.")
    browser.find("#switch").click()  # the left ear has no place yet
    browser.wait_for("has no place yet")
    browser.upload("#poses", ROOT / "examples/poses.json")
    browser.wait_for("5 people.")


def test_photos_that_are_wrong_large_or_empty(browser, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(_SURFERS.read_bytes()[:100])
    nobody = tmp_path / "nobody.png"
    noise = np.random.RandomState(0).randint(0, 60, (200, 300, 3), np.uint8)
    PIL.Image.fromarray(noise).save(nobody)
    large = tmp_path / "large.jpg"
    with PIL.Image.open(_SURFERS) as photo:
        photo.resize((4000, 5000)).save(large)
    browser.find(
        "#examples button, #examples img"
    ).click()  # after it, our own reader must still read
    browser.wait_for("5 people.")
    for path, said in ((broken, "broken.jpg"), (nobody, "Nobody was found"), (large, "5 people.")):
        browser.find("#photo button[aria-label='Remove Image']").click()
        browser.wait_for("Open a photo")
        WebDriverWait(browser.driver, 60).until(
            lambda driver: driver.find_elements(By.CSS_SELECTOR, "#photo input[type=file]")
        )
        browser.upload("#photo", path)
        browser.wait_for(said)
    assert browser.find("#picture img").get_property("naturalHeight") <= 1280


def test_nothing_is_fetched_from_elsewhere(browser, address):
    asked = [
        json.loads(entry["message"])["message"] for entry in browser.driver.get_log("performance")
    ]
    urls = {
        m["params"]["request"]["url"] for m in asked if m["method"] == "Network.requestWillBeSent"
    }
    elsewhere = {u for u in urls if not u.startswith((address, "data:", "blob:", "chrome"))}
    assert not elsewhere


def test_the_package_alone_has_a_photo_to_begin_with():
    assert (ROOT / "pose2seg_jax/program/app/example.jpg").read_bytes() == (
        ROOT / "examples/tennis_couple.jpg"
    ).read_bytes()
