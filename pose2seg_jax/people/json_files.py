"""JSON as programs write it: UTF-8 whatever the locale, with or without a byte-order mark, gzipped, or one value a line."""

import gzip
import io
import json
import os
import zlib
from typing import Any

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError

_GZIP = b"\x1f\x8b"
# A gzipped file may be so many times as large when unpacked, and 64 MiB besides. Annotations pack about 5 times.
_PACKING, _LEAST_UNPACKED = 100, 2**26


class JsonError(UserError):
    """A file that is missing or no JSON; the message names it and says what is wrong."""


def load(path: str | os.PathLike) -> Any:
    """Returns the content of a JSON file; that of JSON lines is a list.

    Raises:
        JsonError: missing, no JSON, or a key stands twice in one object, of which only the last would be read.
    """
    return parse(read_bytes(path), path)


def read_bytes(path: str | os.PathLike) -> bytes:
    """Returns the bytes of a file, unpacked where it is gzipped.

    Raises:
        JsonError: it cannot be read.
    """
    try:
        data = paths.resolve(path).read_bytes()
        if not data.startswith(_GZIP):
            return data
        most = _LEAST_UNPACKED + _PACKING * len(data)
        with gzip.open(io.BytesIO(data)) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or error
        raise JsonError(f"{path}: cannot be read: {why}.") from None
    if len(unpacked) > most:
        raise JsonError(
            f"{path}: {len(data)} bytes that unpack to more than {most}, as no JSON does; unpack it yourself if it is right."
        )
    return unpacked


def parse(data: bytes, path: str | os.PathLike) -> Any:
    """Returns the value that the bytes of a file hold; see `load`."""
    try:
        return _value_or_lines(data)
    except _TwiceError as error:
        raise JsonError(
            f"{path}: the key {error.args[0]!r} stands more than once in one object, and only the last would be"
            " read; join the values or take one out."
        ) from None
    except (ValueError, RecursionError) as error:  # also bytes and numbers that are no JSON
        raise JsonError(f"{path}: is no JSON file: {error}.") from None


def _value_or_lines(data: bytes) -> Any:
    try:
        return json.loads(data, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        lines = [line for line in data.splitlines() if line.strip()]
        if not error.msg.startswith("Extra data") or len(lines) < 2:
            raise
        values = []
        for number, line in enumerate(lines, 1):
            try:
                values.append(json.loads(line, object_pairs_hook=_object))
            except json.JSONDecodeError as of_line:
                if not values:
                    raise error from None  # these are no lines of JSON
                raise ValueError(f"value {number}: {of_line}") from None
        return values


class _TwiceError(Exception):
    """The key that stands twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found
