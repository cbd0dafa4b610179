"""Chromium without a window, for the tests of pages."""

import pathlib
import shutil

import pytest
from selenium import webdriver

needs_browser = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="Chromium's driver is not installed"
)
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1500,1400",
)  # fmt: skip


def open_browser(folder: pathlib.Path) -> webdriver.Chrome:
    """Opens a browser whose profile and downloads are in a folder."""
    options = webdriver.ChromeOptions()
    for flag in _FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.add_experimental_option(
        "prefs",
        {
            "download.default_directory": str(folder),
            "profile.default_content_setting_values.automatic_downloads": 1,
        },
    )
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    return webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )
