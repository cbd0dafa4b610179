"""A training that is asked to end: SIGTERM, as a cluster sends it before it takes the machine, or Ctrl-C."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from pose2seg_jax import parallel


class AskedToEnd(BaseException):
    """The process was asked to end within `Interruption.at_once`, or shortly before."""


class Interruption:
    """Remembers that the process was asked to end, so that the loop can save first.

        with Interruption() as interruption:
            for step in steps:
                ...
                if interruption.asked(step):
                    break

    A second request ends the process at once, as if nothing caught it. Of several processes all end at the same step,
    whichever was asked. Signals reach the main thread only; elsewhere nothing is caught.
    """

    def __init__(self) -> None:
        """Catches nothing before the block begins."""
        self._asked = self._at_once = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        """Begins to catch."""
        if threading.current_thread() is threading.main_thread():
            # With several processes JAX itself catches SIGTERM, and tells the others.
            caught = (
                [signal.SIGINT] if self._is_one_of_several() else [signal.SIGINT, signal.SIGTERM]
            )
            self._before = {number: signal.signal(number, self._catch) for number in caught}
        return self

    def __exit__(self, *_: Any) -> None:
        self._let_go()

    def asked(self, step: int) -> bool:
        """Returns whether the training is to end after this step; every process asks after every step."""
        if self._is_one_of_several():
            return parallel.is_asked_to_end(step)
        return self._asked

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that may be left in the middle.

        Raises:
            AskedToEnd: the process was asked to end while in it, and is the only one.
        """
        self._at_once = not self._is_one_of_several()
        try:
            if self._at_once and self._asked:
                raise AskedToEnd
            yield
        finally:
            self._at_once = False

    def _catch(self, number: int, frame: Any) -> None:
        self._let_go()
        self._asked = True
        if self._is_one_of_several():
            os.kill(os.getpid(), signal.SIGTERM)
        if self._at_once:
            raise AskedToEnd

    def _let_go(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    @staticmethod
    def _is_one_of_several() -> bool:
        return parallel.processes()[1] > 1
