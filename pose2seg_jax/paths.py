"""Paths as users write them: `~` is the home directory, and some may be in a bucket (gs://)."""

import contextlib
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from typing import IO

from etils import epath

from pose2seg_jax.errors import UserError

_SCHEMES = ("gs://", "s3://", "az://")


def resolve(path: str | os.PathLike) -> epath.Path:
    """Returns a path that may be local or in a bucket, with `~` expanded.

    Raises:
        UserError: it has another scheme, as in "http://...", or the home directory is unknown.
    """
    text = os.fspath(path)
    if "://" in text and not text.startswith(_SCHEMES):
        raise UserError(f"{text}: expected a local path, or one of {', '.join(_SCHEMES)}.")
    found = epath.Path(os.path.expanduser(text))
    if os.fspath(found).startswith("~"):
        raise UserError(f"{text}: there is no such home directory; write the path without '~'.")
    return found


def absolute(path: str | os.PathLike) -> epath.Path:
    """Returns `resolve`, made absolute where it is on this machine."""
    found = os.fspath(resolve(path))
    return epath.Path(found if found.startswith(_SCHEMES) else os.path.abspath(found))


def local(path: str | os.PathLike, what: str) -> pathlib.Path:
    """Returns a path on this machine, with `~` expanded.

    Args:
        path: as the user wrote it.
        what: what it is for, as in "--image".

    Raises:
        UserError: it is not on this machine.
    """
    found = resolve(path)
    if os.fspath(found).startswith(_SCHEMES):
        raise UserError(f"{path}: {what} must be on this machine; copy it here first.")
    return pathlib.Path(found)


@contextlib.contextmanager
def fetched(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A file on this machine that holds what a file holds, which may be in a bucket; it is gone after the block.

    Raises:
        OSError: the file is missing, or cannot be read.
    """
    found = resolve(path)
    if not os.fspath(found).startswith(_SCHEMES):
        yield pathlib.Path(found)
        return
    try:
        data = found.read_bytes()
    except Exception as error:  # a bucket's library has errors of its own
        raise OSError(f"{type(error).__name__}: {error}") from None
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / found.name
        copy.write_bytes(data)
        yield copy


def make_directory(path: str | os.PathLike, what: str) -> epath.Path:
    """Makes a directory, and those above it, unless it is there.

    Args:
        path: as the user wrote it.
        what: the flag or field that names it.

    Raises:
        UserError: it is a file, or cannot be made.
    """
    found = resolve(path)
    try:
        found.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(
            f"{what}={path}: is a file, or below one; it must be a directory."
        ) from None
    except Exception as error:  # a bucket's library has errors of its own
        if not isinstance(error, OSError) and not os.fspath(found).startswith(_SCHEMES):
            raise
        raise UserError(f"{what}={path}: cannot be made: {error}.") from None
    return found


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file that appears under its name when it is complete.

    Every writer has a temporary file of its own, so that two processes cannot mix.

    Raises:
        UserError: it cannot be written.
    """
    target = resolve(path)
    data = content.encode() if isinstance(content, str) else content
    if os.fspath(target).startswith(_SCHEMES):  # objects of a bucket appear whole
        target.write_bytes(data)
        return
    try:
        _write_local(pathlib.Path(target), data)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}.") from None


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, busy: str | None = None) -> Iterator[bool]:
    """Keeps other processes out of what a lock file stands for, while in the block.

    The system lets go of the lock when the process ends, however it ends. In a bucket, and where the system has no such
    locks, nobody is kept out.

    Args:
        path: of the lock file; it is made, and stays.
        busy: what to say where another process is in its block; None to wait for it.

    Yields:
        Whether others are kept out.

    Raises:
        UserError: another process is in its block, with the words of `busy`; or the file cannot be written.
    """
    target = resolve(path)
    if os.fspath(target).startswith(_SCHEMES):
        yield False
        return
    try:
        file = open(target, "ab")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror}.") from None
    with file:
        yield lock(file, busy)


def lock(file: IO[bytes], busy: str | None = None, *, shared: bool = False) -> bool:
    """Locks an open file, see `locked`; returns whether the system could.

    Args:
        file: which one.
        busy: as for `locked`.
        shared: whether others may hold such a lock too.

    Raises:
        UserError: another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        return False
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind | (fcntl.LOCK_NB if busy else 0))
    except BlockingIOError:
        raise UserError(str(busy)) from None
    except OSError:  # a file system without locks
        return False
    return True


def remove_partial(files: Iterable[pathlib.Path]) -> None:
    """Removes the temporary files of writers that were killed; nobody may be writing these files."""
    by_directory: dict[pathlib.Path, set[str]] = {}
    for file in files:
        by_directory.setdefault(file.parent, set()).add(file.name)
    for directory, names in by_directory.items():
        for partial in directory.glob(".*.partial"):
            if partial.name.removeprefix(".").rsplit(".", 2)[0] in names:
                partial.unlink(missing_ok=True)


def _write_local(target: pathlib.Path, data: bytes) -> None:
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
