"""A bar on a terminal, silence elsewhere."""

import io
import logging
import sys

from pose2seg_jax import progress


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _look(monkeypatch):
    """From here on, standard error is a terminal."""
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "_quiet", False)
    return screen


def test_a_terminal_sees_how_far_it_is(monkeypatch):
    terminal = _look(monkeypatch)
    assert list(progress.show(iter("abc"), "photos", "photo", total=5, done=2)) == ["a", "b", "c"]
    assert "photos: 100%" in terminal.getvalue()
    assert "5/5" in terminal.getvalue()


def test_warnings_do_not_tear_the_bar(monkeypatch):
    terminal = _look(monkeypatch)
    for _ in progress.show([1], "photos", "photo", 1):
        logging.getLogger().warning("careful")
    assert "careful" in terminal.getvalue()
    assert all(
        not ("careful" in line and "%" in line)
        for line in terminal.getvalue().replace("\r", "\n").split("\n")
    )


def test_nothing_is_shown_elsewhere(monkeypatch):
    terminal = _look(monkeypatch)
    progress.be_quiet()
    assert list(progress.show([1, 2], "photos", "photo")) == [1, 2]
    monkeypatch.setattr(progress, "_quiet", False)
    terminal.isatty = lambda: False
    assert list(progress.show([1, 2], "photos", "photo")) == [1, 2]
    assert not terminal.getvalue()
