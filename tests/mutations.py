"""Valid content with something changed: for tests of what reads files."""

import copy
import random
from collections.abc import Iterator
from typing import Any

_ODD = (
    None, True, False, 0, -1, 1, 2, 3, 0.5, 99.5, -0.0, 1e9, -1e9, 1e308, 10**25, 10**400, -(10**400), float("nan"),
    float("inf"), float("-inf"), "", "1", "nan", "person", "é\ud800", "x" * 5000, [], {}, [[]], [None], [[[[[[1]]]]]],
    {"x": 1}, {"keypoints": []}, [1, 2], [0, 0, 0] * 17, [[1, 2, 3]] * 17, [0.5] * 34,
)  # fmt: skip


def mutated(value: Any, rng: random.Random) -> Any:
    """Returns a value of JSON with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return value
        short = [p for p in places if len(p) <= 3]
        *path, key = rng.choice(short if rng.random() < 0.5 else places)
        parent = value
        for step in path:
            parent = parent[step]
        change = rng.randrange(6)
        if change == 0:
            parent.pop(key)
        elif change == 1:
            parent[key] = [parent[key]]
        elif change == 2 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif change == 3 and isinstance(parent, dict):
            parent[rng.choice(("id", "people", "x", key + "s"))] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(rng.choice(_ODD))
    return value


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Returns a file that is cut off, begins too late, or has a byte, a bit or a part changed."""
    at = rng.randrange(len(data) + 1)
    byte = data[at] if at < len(data) else 0
    end = rng.randrange(at, min(at + 64, len(data)) + 1)
    return rng.choice(
        (
            data[:at],
            data[at:],
            data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            data[:at] + bytes([byte ^ 1 << rng.randrange(8)]) + data[at + 1 :],
            data[:at] + data[end:],
            data[:end] + data[at:],
            data[:at] + b"\xff" * (end - at) + data[end:],
        )
    )


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """The paths of all values inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()  # fmt: skip
    for key, inner in items:
        yield (*path, key)
        yield from _places(inner, (*path, key))
