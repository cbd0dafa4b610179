"""What a page shows of a scene, and the files that it gives away."""

import pathlib
import tempfile
import time
import zipfile

import numpy as np
import PIL.Image
import PIL.ImageDraw

from pose2seg_jax.pictures import overlays, panels
from pose2seg_jax.prediction.scene import Person, Scene, Settings
from pose2seg_jax.program import outputs

_PANEL_SIDE = 480  # of the picture that the panels are made from


def draw(
    scene: Scene, settings: Settings, selected: Person | None, part: int
) -> tuple[np.ndarray, str]:
    """Returns the picture with masks and poses, and a line that says what it shows."""
    start = time.perf_counter()
    result = scene.result(settings)
    took = 1000 * (time.perf_counter() - start)
    people = scene.shown(settings)
    every = overlays.person_colors(max((person.number for person in people), default=0))
    colors = every[[person.number - 1 for person in people]]
    picture = overlays.overlay(scene.picture, result.rles, result.poses, colors)
    said = f"{len(people)} people. Masks in {took:.0f} ms."
    if selected in people:
        pose = selected.pose(settings.part_threshold)
        if pose[part, 2] > 0:
            picture = _ring(picture, *pose[part, :2].tolist())
        score = result.scores[people.index(selected)]
        said += f" Person {selected.number} has score {score:.2f}."
    return picture, said


def _ring(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """A ring around the part that is selected."""
    canvas = PIL.Image.fromarray(picture)
    radius = max(canvas.size) / 70
    box = (x - radius, y - radius, x + radius, y + radius)
    PIL.ImageDraw.Draw(canvas).ellipse(box, outline=(255, 255, 255), width=max(round(radius / 4), 2))  # fmt: skip
    return np.asarray(canvas)


def alignment_picture(scene: Scene, settings: Settings, person: Person) -> np.ndarray:
    """Returns AffineAlign of one person, step by step (Figure 10 of the paper)."""
    rois = scene.rois(person, settings)
    shown = PIL.Image.fromarray(scene.picture)
    shown.thumbnail((_PANEL_SIDE, _PANEL_SIDE))
    scale = np.asarray(shown.size) / scene.picture.shape[1::-1]
    pose = person.pose(settings.part_threshold)
    pose[:, :2] *= scale
    matrices = np.asarray(rois.alignment.matrix) * np.asarray([*(1 / scale), 1], np.float32)
    probabilities = np.asarray(rois.probabilities)
    (row,) = panels.alignment_panels(
        np.asarray(shown), pose[None], probabilities, matrices, scene.roi_stride
    )
    return row


def write_files(scene: Scene, settings: Settings, photo: str) -> list[str]:
    """Writes the result of a photo at its full size; returns the files: COCO JSON, label map, cut-outs."""
    stem = pathlib.Path(photo).stem
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pose2seg_"))
    result = scene.full_result(settings)
    result.save(directory / f"{stem}.json")
    result.save(directory / f"{stem}_labels.png")
    with zipfile.ZipFile(directory / f"{stem}_cutouts.zip", "w") as archive:
        for name, person in outputs.draw(stem, ["cutouts"], scene.image, result).items():
            with archive.open(name, "w") as file:
                PIL.Image.fromarray(person).save(file, "PNG")
    return sorted(str(path) for path in directory.iterdir())
