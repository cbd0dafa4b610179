"""Which image of a pose file is which photo. One set of rules for prediction and evaluation.

From the strictest rule to the loosest:

1. the number by which the data set knows the photo (evaluation alone; as text, "785", it comes after the names);
2. the file name, and of several paths that end in it the one that goes on alike ("a/photo.jpg" is /data/a/photo.jpg);
3. the same, upper and lower case and the form of accents aside;
4. the name without its suffix ("photo.png" is photo.jpg);
5. the whole name as a number (785 is 000000000785.jpg);
6. the last number in the name (785 is frame_000785.jpg).

A rule is used only where it is unique.
"""

import collections
import contextlib
import logging
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pose2seg_jax.people.images import IMAGE_SUFFIXES
from pose2seg_jax.people.pose_files.content import (
    FileImage,
    ImageKey,
    PoseFileError,
    whole_number,
)

_ID, _NAME, _FOLDED, _STEM, _NUMBER, _LAST_NUMBER = range(6)
_SAID = {_STEM: "their names without the suffix", _LAST_NUMBER: "the last number in their names"}
_Rule = tuple[int, int, bool]  # which, minus the folders alike, whether the next folder differs


class Photo(NamedTuple):
    """A photo to find.

    Attributes:
        path: where it is, or its name.
        id: its number in a data set; None outside of one.
    """

    path: str | os.PathLike
    id: int | None = None


def match(images: Mapping[ImageKey, FileImage], photos: Sequence[Photo], path: str | os.PathLike) -> dict[int, ImageKey]:  # fmt: skip
    """Finds the images of a pose file among photos.

    Args:
        images: of the file, by key.
        photos: to find.
        path: of the file, for messages.

    Returns:
        Index of the photo -> key of its image. Photos that the file does not know are left out.

    Raises:
        PoseFileError: a rule that matches is not unique; the message lists the candidates.
    """
    unnamed = [key for key, image in images.items() if not image.is_named]
    if unnamed and len(unnamed) == len(photos):
        _warn_of_unnamed(images, unnamed, photos, path)
        return dict(enumerate(unnamed))
    if len(unnamed) > 1:
        raise PoseFileError(
            f"{path}: holds {len(unnamed)} frames that name no photo, for {len(photos)} photos; give as many photos, in order,"
            " or a file for each photo."
        )
    index = _Index(images)
    by_rule: dict[_Rule, list[tuple[int, ImageKey]]] = collections.defaultdict(list)
    for number, photo in enumerate(photos):
        for rule, key in index.candidates(photo):
            by_rule[rule].append((number, key))
    found: dict[int, ImageKey] = {}
    used: set[ImageKey] = set()
    for rule in sorted(by_rule):
        pairs = [(n, key) for n, key in by_rule[rule] if n not in found and key not in used]
        _check_unique(pairs, images, photos, path)
        found.update(pairs)
        used.update(key for _, key in pairs)
        how = "their names alone, since the folders differ" if rule[2] else _SAID.get(rule[0])
        _warn(path, how and f"photos are matched by {how}", pairs, images, photos)
    passed = [pair for pairs in by_rule.values() for pair in pairs if pair[1] not in used]
    _warn(path, "images of the file are as near to photos that have poses already", passed, images, photos)  # fmt: skip
    return found


def _warn(
    path: str | os.PathLike,
    what: str | None,
    pairs: list[tuple[int, ImageKey]],
    images: Mapping[ImageKey, FileImage],
    photos: Sequence[Photo],
) -> None:
    """Says how many photos are concerned, with an example; nothing where there is nothing to say."""
    if what and pairs:
        number, key = pairs[0]
        logging.warning(
            "%s: %d %s, such as %s with %s.", path, len(pairs), what, photos[number].path, images[key]
        )  # fmt: skip


def _warn_of_unnamed(
    images: Mapping[ImageKey, FileImage],
    unnamed: list[ImageKey],
    photos: Sequence[Photo],
    path: str | os.PathLike,
) -> None:
    """Says that poses belong to photos by their order alone, or to the only one, which has another name."""
    if len(photos) > 1:
        logging.warning("%s: its %d frames are taken for the photos in their order.", path, len(unnamed))  # fmt: skip
        return
    own, name = (_fold(_stem(_components(str(n))[0])) for n in (unnamed[0], photos[0].path))
    if own != name:
        logging.warning(
            "%s: names no photo; it is taken for the poses of %s, the only one.", path, photos[0].path
        )  # fmt: skip


def _check_unique(
    pairs: list[tuple[int, ImageKey]],
    images: Mapping[ImageKey, FileImage],
    photos: Sequence[Photo],
    path: str | os.PathLike,
) -> None:
    for number, count in collections.Counter(n for n, _ in pairs).items():
        if count > 1:
            names = ", ".join(str(images[key]) for n, key in pairs if n == number)
            raise PoseFileError(
                f"{path}: {photos[number].path} may be any of {names}; name the images in the file as the photos are"
                " named, or leave the others out."
            )
    for key, count in collections.Counter(key for _, key in pairs).items():
        if count > 1:
            names = ", ".join(str(photos[n].path) for n, k in pairs if k == key)
            raise PoseFileError(
                f"{path}: its image {images[key]} may be any of the photos {names}; give only the one that it is of, or"
                " rename them."
            )


class _Index:
    """The images of a file by everything that a photo may be found by."""

    def __init__(self, images: Mapping[ImageKey, FileImage]):
        self._by_stem: dict[str, list] = collections.defaultdict(list)
        self._by_number: dict[int | None, list] = collections.defaultdict(list)
        self._by_text: dict[int, list] = collections.defaultdict(list)
        self._by_id: dict[int, list] = collections.defaultdict(list)
        for key, image in images.items():
            name = image.name if image.name is not None else image.id
            if isinstance(name, str):
                parts = _components(name)
                if parts:
                    self._by_stem[_fold(_stem(parts[0]))].append((key, parts))
            number = _whole_number(name)
            if number is not None:
                self._by_number[number].append(key)
            if isinstance(image.id, int) and image.name is None:
                self._by_id[image.id].append(key)
            elif isinstance(image.id, str) and image.name is None and image.id.isdecimal():
                self._by_text[whole_number(image.id) or 0].append(key)

    def candidates(self, photo: Photo) -> Iterator[tuple[_Rule, ImageKey]]:
        """The images that may be a photo, each with its rule; the lowest is the strictest."""
        if photo.id is not None:
            for key in self._by_id[photo.id]:
                yield (_ID, 0, False), key
        parts = _components(os.fspath(photo.path))
        if not parts:
            return
        stem = _stem(parts[0])
        for key, other in self._by_stem.get(_fold(stem), []):
            alike = _same_suffix(parts[0], other[0])
            exact = alike and _stem(other[0]) == stem
            rule = _NAME if exact else _FOLDED if alike else _STEM
            common = _common(parts[1:], other[1:])
            contradicts = common < min(len(parts), len(other)) - 1
            yield (rule, -common, contradicts), key
        if photo.id is not None:  # a data set says itself which number a photo has
            for key in self._by_text.get(photo.id, []):
                yield (_NUMBER, 0, False), key
            return
        rule = _NUMBER if stem.isdecimal() else _LAST_NUMBER
        for key in self._by_number.get(last_number(stem), []):
            yield (rule, 0, False), key


def last_number(path: str) -> int | None:
    """Returns the last number in the name of a file, None where there is none."""
    *_, last = re.findall(r"\d+", _stem((_components(path) or [""])[0])) or [""]
    return whole_number(last)


def _components(path: str) -> list[str]:
    """The folders and the name of a path with slashes of either kind, the name first; as Unicode whatever the locale."""
    with contextlib.suppress(UnicodeEncodeError):
        path = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return [part for part in reversed(re.split(r"[/\\]", path)) if part not in ("", ".")]


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _stem(name: str) -> str:
    return name[: -len(suffix)] if (suffix := _suffix(name)) else name


def _suffix(name: str) -> str:
    suffix = pathlib.PurePosixPath(name).suffix
    return suffix if suffix.lower() in IMAGE_SUFFIXES else ""


def _same_suffix(one: str, other: str) -> bool:
    suffixes = {_suffix(one).lower(), _suffix(other).lower()}
    return len(suffixes) == 1 or "" in suffixes


def _common(one: Iterable[str], other: Iterable[str]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if _fold(a) != _fold(b):
            break
        count += 1
    return count


def _whole_number(name: ImageKey | None) -> int | None:
    if isinstance(name, str):
        parts = _components(name)
        stem = _stem(parts[0]) if parts else ""
        return whole_number(stem)
    return name
