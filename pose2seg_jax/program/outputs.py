"""The pictures that prediction writes for a photo or a frame, by their kinds (`--write`)."""

import io
import pathlib
import re
from collections.abc import Collection, Mapping

import numpy as np
import PIL.Image

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.people.videos import is_camera
from pose2seg_jax.pictures import overlays
from pose2seg_jax.prediction.results import Result

# --write: each kind, and what it is.
KINDS = {
    "coco": "results.json, a COCO results file",
    "polygons": "polygons.json, the same with polygons",
    "overlay": "the photo or video with its masks and poses",
    "labels": "a PNG of 0 for nobody, 1, 2, ... for the persons",
    "cutouts": "a PNG of each person with alpha",
}
PICTURES = ("overlay", "labels", "cutouts")  # those that each photo has
DEFAULT = ("coco", "overlay")
# The suffix of the photo or video stands in front.
_OURS = re.compile(r"\.\w+(_\d{6})?_(overlay|labels|person\d+)\.(png|mp4)$")


def is_ours(name: str) -> bool:
    """Returns whether a file's name is that of one of these pictures."""
    return _OURS.search(name) is not None


def check(kinds: Collection[str]) -> tuple[str, ...]:
    """Returns the kinds that `--write` names.

    Raises:
        UserError: one is unknown.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--write={kind}: is unknown; there are {', '.join(KINDS)}.")
    if not kinds:
        raise UserError(f"--write is empty; there are {', '.join(KINDS)}.")
    return tuple(kinds)


def open_directory(output: str, images: Collection[str]) -> pathlib.Path:
    """Returns the folder for results, which is made where it is missing.

    Raises:
        UserError: it is the folder of the photos, or cannot be made.
    """
    if not output:
        raise UserError("--output is empty; name a folder for the results.")
    directory = paths.local(output, "--output")
    folders = [image for image in images if not is_camera(image)]
    if any(directory.resolve() == paths.local(i, "--image").resolve() for i in folders):
        raise UserError(f"--output={output}: is the folder of the photos; name another one.")
    paths.make_directory(directory, "--output")
    return directory


def first_names(name: pathlib.PurePath, kinds: Collection[str], *, video: bool) -> list[str]:
    """Returns the names that a photo's or video's files begin with, one a kind."""
    still = frame_name(name, 0) if video else str(name)
    return [
        video_name(name) if video and kind == "overlay" else _file_name(still, kind)
        for kind in kinds
        if kind in PICTURES
    ]


def video_name(name: pathlib.PurePath) -> str:
    """Returns the name of a video's overlays."""
    return f"{name}_overlay.mp4"


def frame_name(name: pathlib.PurePath, number: int) -> str:
    """Returns what the pictures of a frame are named after."""
    return f"{name}_{number:06}"


def _file_name(name: str, kind: str, person: int = 1) -> str:
    """The name of a picture of a photo or frame."""
    ending = f"person{person}" if kind == "cutouts" else kind
    return f"{name}_{ending}.png"


def draw(
    name: str,
    kinds: Collection[str],
    picture: np.ndarray,
    result: Result,
) -> dict[str, np.ndarray]:
    """Returns the pictures of a photo, or of a frame, by the names of their files.

    Args:
        name: of the photo, relative to the output.
        kinds: of KINDS; what is no picture is left to others.
        picture: (H, W, 3) uint8.
        result: its persons.
    """
    made: dict[str, np.ndarray] = {}
    if "overlay" in kinds:
        made[_file_name(name, "overlay")] = overlays.overlay(picture, result.rles, result.poses)
    if "labels" in kinds:
        made[_file_name(name, "labels")] = result.label_map()
    if "cutouts" in kinds:
        for number, person in enumerate(result.cut_outs(picture), 1):
            if person.size:
                made[_file_name(name, "cutouts", number)] = person
    return made


def write(directory: pathlib.Path, made: Mapping[str, np.ndarray]) -> None:
    """Writes pictures by the names of their files.

    Raises:
        UserError: one cannot be written.
    """
    for name, values in made.items():
        buffer = io.BytesIO()
        PIL.Image.fromarray(values).save(buffer, "PNG")
        paths.make_directory((directory / name).parent, "--output")
        paths.write_atomically(directory / name, buffer.getvalue())
