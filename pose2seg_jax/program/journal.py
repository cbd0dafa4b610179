"""A file of JSON lines that is only added to: a program that is killed loses at most the line that it was writing."""

import contextlib
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError

# What a line may be; the first of a journal is of the first kind, the others are not.
_JOB = {"job": dict}
_BEGIN = b'{"job": '
_LINES = (
    {"wrote": str},
    {"files": list},
    {
        "photo": str, "state": list | None, "name": str, "at": int, "entries": list, "files": list,
        "kinds": list,
    },
)  # fmt: skip


class DamagedError(Exception):
    """A journal that cannot be read, or that another program wrote."""


class Journal:
    """Lines of JSON: the first says what the job is, the others what was done."""

    def __init__(self, path: pathlib.Path):
        """Opens nothing yet.

        Args:
            path: of the file, which may be missing.
        """
        self.path = path
        self._size = self._length = 0  # bytes that were read, and those of complete lines
        self._file: Any = None

    def read(self) -> list[Any]:
        """Returns the complete lines; none where the file is missing.

        Raises:
            DamagedError: they are not those of a journal.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        self._size, self._length = len(data), data.rfind(b"\n") + 1
        if not self._length and _BEGIN.startswith(data[: len(_BEGIN)]):
            return []  # a process was stopped before its first line was complete
        try:
            lines = [json.loads(line) for line in data[: self._length].splitlines()]
        except (ValueError, RecursionError):
            raise DamagedError(self.path) from None
        if not lines or not _is(lines[0], _JOB):
            raise DamagedError(self.path)
        if not all(any(_is(line, kind) for kind in _LINES) for line in lines[1:]):
            raise DamagedError(self.path)
        return lines

    def is_written(self) -> bool:
        """Returns whether another process is writing it; False where the system has no locks."""
        try:
            with open(self.path, "r+b") as file:
                paths.lock(file, busy="busy", shared=True)
        except UserError:
            return True
        except OSError:  # it is missing, or may not be written
            return False
        return False

    @contextlib.contextmanager
    def writing(self, start: Iterable[Mapping[str, Any]] | None) -> Iterator[None]:
        """Lets `append` write, and no other process.

        Args:
            start: the first lines, which replace those that are there; None to go on.

        Raises:
            UserError: it cannot be written, another process is writing it, or one has written it since `read`.
        """
        busy = f"{self.path}: another prediction is writing here; wait for it, or name another --output."
        try:
            # Not replaced by another file: that would not have the lock.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}.") from None
        with file:
            paths.lock(file, busy=busy)
            if file.seek(0, os.SEEK_END) != self._size:
                raise UserError(f"{self.path}: another prediction wrote here while this one began; start it again.")  # fmt: skip
            if self._size > self._length and start is None:
                logging.warning("%s: its last line is incomplete and is left out.", self.path)
            self._file, self._length = file, 0 if start is not None else self._length
            file.truncate(self._length)
            file.seek(self._length)
            for line in start or ():
                self.append(line)
            yield

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds a line at once.

        Raises:
            UserError: it cannot be written.
        """
        data = json.dumps(line).encode() + b"\n"
        try:
            if self._file.write(data) != len(data):
                raise OSError(None, "the disk is full")
            self._length += len(data)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._length)
                self._file.seek(self._length)
            raise UserError(f"{self.path}: cannot be written: {error.strerror}.") from None


def _is(line: Any, kind: Mapping[str, Any]) -> bool:
    """Whether a line has the names and types of a kind; lists hold text, or objects where they are entries."""
    if not isinstance(line, dict) or line.keys() != kind.keys():
        return False
    if not all(isinstance(line[name], type_) for name, type_ in kind.items()):
        return False
    return all(
        isinstance(item, dict if name == "entries" else str)
        for name in kind
        if name in ("entries", "files", "kinds")
        for item in line[name]
    )
