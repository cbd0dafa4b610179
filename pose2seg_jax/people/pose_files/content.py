"""What a reader of one format hands over: persons as the file holds them, translated in structure only."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from pose2seg_jax.errors import UserError

_MOST_DIGITS = 18  # of a number in a name

# How a file names an image: by a number, or by a name.
ImageKey = int | str


class PoseFileError(UserError):
    """A pose file that cannot be used; the message names the file, the person, and what to do."""


@dataclasses.dataclass(slots=True)
class FilePerson:
    """A person, as a pose file holds it.

    Attributes:
        image: key of its image in `FileContent.images`.
        keypoints: numbers of the parts in any of the forms of `numbers.person_parts`; None for nobody.
        where: names the person in messages.
        part_scores: where they are a list of their own.
        score: of the person; None where the file has none.
        id: of the person in the file.
    """

    image: ImageKey
    keypoints: Any
    where: str
    part_scores: Any = None
    score: Any = None
    id: Any = None


@dataclasses.dataclass(slots=True)
class FileImage:
    """An image, as a pose file names it.

    Attributes:
        id: the number or text by which the program knows it; written into the results.
        name: its file name, where the file says it.
        size: (height, width) where the file says it.
        is_named: False where only the name of the pose file says which image it is.
    """

    id: ImageKey
    name: str | None = None
    size: tuple[int, int] | None = None
    is_named: bool = True

    def __str__(self) -> str:
        """How messages name it."""
        return f"{self.name} (id {self.id})" if self.name not in (None, self.id) else str(self.id)


@dataclasses.dataclass
class FileContent:
    """The content of a pose file.

    Attributes:
        format: as documents call it.
        persons: in the order of the file.
        images: by the key that the persons have.
        part_names: where the file names its parts.
        pixel_indices: whether the first pixel's centre is at 0, and not at 0.5.
        fractions: whether the format gives coordinates in 0..1 of the image.
        visibilities: what the format's own third values mean, where they are not COCO's.
        left_out: reason -> how many persons the reader left out.
    """

    format: str
    persons: list[FilePerson] = dataclasses.field(default_factory=list)
    images: dict[ImageKey, FileImage] = dataclasses.field(default_factory=dict)
    part_names: tuple[str, ...] | None = None
    pixel_indices: bool = True
    fractions: bool = False
    visibilities: Mapping[int, int] | None = None
    left_out: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def add_image(self, key: ImageKey, **fields: Any) -> None:
        """Adds an image that the file names; see `FileImage`. One that is known stays as it is."""
        if key not in self.images:
            self.images[key] = FileImage(key, **fields)

    def rename(self, key: ImageKey, other: ImageKey) -> None:
        """Gives an image another key; its id stays."""
        self.images[other] = self.images.pop(key)
        for person in self.persons:
            person.image = other if person.image == key else person.image

    def add_person(self, image: ImageKey, keypoints: Any, where: str, **fields: Any) -> None:
        """Adds a person; see `FilePerson`."""
        self.persons.append(FilePerson(image, keypoints, where, **fields))


def whole_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Returns (height, width), also from 213.0 or "213"; None where they are no size."""
    try:
        size = float(height), float(width)
        whole = int(size[0]), int(size[1])
    except (TypeError, ValueError, OverflowError):
        return None
    return whole if whole == size and min(whole) > 0 else None


def whole_number(text: str) -> int | None:
    """Returns the number that a text is; None where it is none, or one of more than 18 digits."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def text(value: Any) -> str | None:
    """Returns a text that is not empty; None for anything else."""
    return value if isinstance(value, str) and value else None


def part_names(names: Any, path: Any) -> tuple[str, ...] | None:
    """Returns the names of parts, None where there are none.

    Raises:
        PoseFileError: they are no names.
    """
    if not names:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PoseFileError(f"{path}: the names of the parts must be a list of texts.")
    return tuple(names)


def image_key(value: Any) -> ImageKey | None:
    """Returns an image id as a number where it is one (785, 785.0), otherwise as text; None for anything else."""
    if type(value) is int or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        return int(value) if abs(value) < 2**63 and int(value) == value else str(value)
    return None
