"""A bar with rate and time left for long work, where somebody looks at a terminal."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

_T = TypeVar("_T")
_quiet = False


def be_quiet() -> None:
    """Shows no bar in this process from now on."""
    global _quiet
    _quiet = True


def is_shown() -> bool:
    """Returns whether there is a terminal, and nobody asked for quiet."""
    return not _quiet and sys.stderr.isatty()


def show(items: Iterable[_T], what: str, unit: str, total: int | None = None, done: int = 0) -> Iterator[_T]:  # fmt: skip
    """Yields the items, and shows how far they are on standard error, if that is a terminal.

    Args:
        items: the work.
        what: it is, in front of the bar.
        unit: of the rate, as "photo".
        total: how many items there are, those that were done before included; None where nobody knows.
        done: how many were done before.
    """
    with _bar(what, unit, total, done) as bar:
        for item in items:
            yield item
            bar.update()


@contextlib.contextmanager
def _bar(what: str, unit: str, total: int | None, done: int) -> Iterator[Any]:
    hidden = not is_shown()
    bar = tqdm.tqdm(desc=what, unit=f" {unit}s", total=total, initial=done, disable=hidden)
    # Warnings appear above the bar.
    with bar, contextlib.nullcontext() if hidden else logging_redirect_tqdm():
        yield bar
