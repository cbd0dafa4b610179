"""The components of the page, and what happens when they are used."""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pose2seg_jax.errors import UserError
from pose2seg_jax.people.masks import THRESHOLD
from pose2seg_jax.people.parts import PART_NAMES
from pose2seg_jax.prediction.scene import Person, Scene, Settings
from pose2seg_jax.program.app import pictures, scenes
from pose2seg_jax.program.app.scenes import Networks

_CLONE = pathlib.Path(__file__).resolve().parents[3]
# One of the clone's photos, where only the package is installed.
_EXAMPLE = pathlib.Path(__file__).with_name("example.jpg")
_TITLE = "People by their poses"
_ABOUT = """# People by their poses
Pose2Seg cuts people out by their poses. Click a joint, then click where it belongs: the mask follows.
Your photo stays on the machine that serves this page."""
_PANELS = """AffineAlign of the selected person, from left to right: pose and ROI, aligned photo, Skeleton Features, mask in the ROI, mask
in the photo"""
_HOUR = 3600  # after which photos, and scenes that nobody works on, are forgotten
_HEIGHT = 640  # of the picture on the page, in pixels of the screen
MOVE, PLACE = "Move a part", "Place parts one after another"
_REACH = 0.03  # of the longer side: how near a click must be to a part


class Page:
    """The components, and what happens when they are used."""

    def __init__(self, gradio: Any, networks: Networks):
        self._gradio, self._networks = gradio, networks
        part, person = networks.thresholds()
        examples = _example_photos()
        with gradio.Blocks(title=_TITLE, analytics_enabled=False, fill_width=True, delete_cache=(_HOUR, _HOUR)) as self.blocks:  # fmt: skip
            gradio.Markdown(_ABOUT)
            self._scene = gradio.State(None, time_to_live=_HOUR)
            self._selected = gradio.State(None)  # the number of a person
            self._held = gradio.State(False)  # whether a part was picked up
            with gradio.Row():
                with gradio.Column(scale=3):
                    self._picture = gradio.Image(
                        label="Click a joint, then where it belongs", interactive=False, format="jpeg",
                        elem_id="picture", buttons=["fullscreen"], height=_HEIGHT,
                    )  # fmt: skip
                    self._said = gradio.Markdown(elem_id="said")
                    gradio.Markdown(_PANELS)
                    self._panel = gradio.Image(show_label=False, interactive=False, format="jpeg", elem_id="panel", buttons=[])  # fmt: skip
                with gradio.Column(scale=1, min_width=320):
                    self._photo = gradio.Image(
                        label="Photo", sources=["upload", "webcam", "clipboard"], type="filepath", height=220,
                        value=examples[0], elem_id="photo",
                    )  # fmt: skip
                    self._photo.preprocess = _path
                    if len(examples) > 1:
                        # `gradio.Examples` would make the component of the photo anew, without our reader.
                        shown = gradio.Dataset(components=["image"], samples=[[path] for path in examples], type="index", label="Examples", elem_id="examples")  # fmt: skip
                        shown.click(lambda index: examples[index], shown, self._photo, show_progress="hidden")  # fmt: skip
                    self._tool = gradio.Radio([MOVE, PLACE], value=MOVE, label="A click")
                    self._person = gradio.Dropdown(label="Person", elem_id="person")
                    names = [(n.replace("_", " "), i) for i, n in enumerate(PART_NAMES)]
                    self._part = gradio.Dropdown(names, value=0, label="Part", elem_id="part")
                    with gradio.Row():
                        switch = gradio.Button("Hide or show part", elem_id="switch")
                        add = gradio.Button("Add person", elem_id="add")
                        remove = gradio.Button("Remove person", elem_id="remove")
                    with gradio.Accordion("Settings", open=False):
                        self._settings = [
                            gradio.Slider(scenes.FEWEST, 1, person, label="Person threshold"),
                            gradio.Slider(0, 1, part, label="Part threshold"),
                            gradio.Slider(0.05, 0.95, THRESHOLD, label="Mask threshold"),
                            gradio.Checkbox(True, label="A pixel belongs to one person at most"),
                        ]
                        self._flip = gradio.Checkbox(False, label="Look at the mirrored photo too (slower)")  # fmt: skip
                    poses = gradio.File(label="Poses of another program", height=110, elem_id="poses")  # fmt: skip
                    make = gradio.Button("Make files of the masks", elem_id="make")
                    files = gradio.File(label="COCO JSON, label map, cut-outs", file_count="multiple", interactive=False, elem_id="files")  # fmt: skip

            self._on([self.blocks.load, self._photo.change], self._open, [self._photo, self._flip])
            self._on([self._flip.change], self._use_flip, [self._flip])
            self._on([poses.upload], self._read_poses, [self._photo, poses])
            self._on([self._picture.select], self._click, [self._tool], clicked=True)
            self._on([switch.click], self._switch)
            self._on([add.click], self._add)
            self._on([remove.click], self._remove)
            for slider in self._settings[:3]:
                self._on([slider.release], self._nothing)
            self._on([self._settings[3].change], self._nothing)
            self._on([self._person.input, self._part.input], self._choose, [self._person])
            inputs = [self._scene, self._photo, *self._settings]
            make.click(_told(gradio, self._make), inputs, files, concurrency_id="network")

    def _on(
        self,
        events: list[Any],
        handle: Callable,
        inputs: list[Any] | None = None,
        *,
        clicked: bool = False,
    ) -> None:
        """Calls a handler with what it changes, the settings and its inputs; then draws, then draws the panel.

        Where a picture is clicked, the handler also gets the pixel (x, y).
        """
        state = [self._scene, self._selected, self._held, self._part]
        shown = [*state, self._picture, self._said, self._person, self._tool]
        run = self._drawn(handle)
        if clicked:
            run = _with_pixel(self._gradio, run)
        run = _told(self._gradio, run)
        given = [*state, *self._settings, *(inputs or ())]
        for event in events:
            drawn = event(run, given, shown, concurrency_id="network", show_progress="hidden")
            drawn.then(
                self._draw_panel, [self._scene, self._selected, *self._settings], self._panel,
                concurrency_id="network", show_progress="hidden",
            )  # fmt: skip

    def _drawn(self, handle: Callable) -> Callable:
        """A handler of an event: the change itself, then the page as it is afterwards."""
        gradio = self._gradio

        def run(scene, selected, held, part, *rest):
            settings, rest = Settings(*rest[:4]), rest[4:]
            change = _Change(scene, selected, held, part)
            handle(change, settings, *rest)
            if change.scene is None:
                nobody = gradio.Dropdown(choices=[], value=None)
                return None, None, False, part, None, change.said or "Open a photo.", nobody, MOVE
            picture, said = pictures.draw(change.scene, settings, change.person, change.part)
            numbers = [p.number for p in change.scene.shown(settings)]
            if change.selected not in numbers:
                change.selected = None
            choices = gradio.Dropdown(choices=numbers, value=change.selected)
            said = f"{said} {change.said}"
            return change.scene, change.selected, change.held, change.part, picture, said, choices, change.tool or gradio.skip()  # fmt: skip

        return run

    def _open(self, change: "_Change", settings: Settings, photo: str, flip: bool) -> None:  # fmt: skip
        start = time.perf_counter()
        change.scene, change.held, change.selected = None, False, None
        try:
            change.scene = scenes.open_photo(self._networks, photo, flip)
        except UserError as error:  # the photo before is gone all the same
            change.said = f"**{str(error).replace(photo, pathlib.Path(photo).name)}**"
        if change.scene is not None:
            people = change.scene.shown(settings)
            change.selected = people[0].number if people else None
            change.said = f"Poses and features in {1000 * (time.perf_counter() - start):.0f} ms."
            if not people:
                change.said += " Nobody was found: lower the person threshold, or add a person."

    def _use_flip(self, change: "_Change", settings: Settings, flip: bool) -> None:
        if change.scene is not None:
            change.scene.use(self._networks.predictor(flip))

    def _read_poses(self, change: "_Change", settings: Settings, photo: str, file: str) -> None:  # fmt: skip
        if change.scene is None:
            raise UserError("Open the photo first.")
        scenes.read_people(change.scene, photo, file)
        change.selected, change.held = None, False
        hidden = len(change.scene.people) - len(change.scene.shown(settings))
        if hidden:
            change.said = (
                f"{hidden} more people of the file have a score below the person threshold."
            )

    def _click(self, change: "_Change", settings: Settings, tool: str, pixel: list[int]) -> None:
        if change.scene is None:
            return
        x, y = (value + 0.5 for value in pixel)  # the centre of the pixel
        person = change.person
        if person is not None and (change.held or tool == PLACE):
            change.scene.place(person, change.part, x, y)
            change.held = False
            if tool == PLACE and change.part + 1 < len(PART_NAMES):
                change.part += 1
                change.said = f"Next: {_name(change.part)}."
            elif tool == PLACE:
                change.tool, change.said = MOVE, "That was the last part."
            return
        reach = _REACH * max(change.scene.picture.shape)
        found = change.scene.nearest_part(x, y, reach, settings)
        if found is None:
            change.said = "No joint is near: click nearer to one."
            return
        change.selected, change.part, change.held = found[0].number, found[1], True
        change.said = f"Now click where the {_name(change.part)} belongs."

    def _switch(self, change: "_Change", settings: Settings) -> None:
        person = change.put_down()
        if person is not None and not change.scene.switch(person, change.part, settings):
            change.said = (
                f"The {_name(change.part)} has no place yet: choose '{PLACE}' and click it."
            )

    def _add(self, change: "_Change", settings: Settings) -> None:
        if change.scene is None:
            raise UserError("Open a photo first.")
        change.selected, change.part, change.held = change.scene.add_person().number, 0, False
        change.tool = PLACE
        change.said = f"Click the {_name(0)} of the new person, then the next parts; choose another part to leave one out."

    def _remove(self, change: "_Change", settings: Settings) -> None:
        person = change.put_down()
        if person is not None:
            change.scene.remove(person)

    def _choose(self, change: "_Change", settings: Settings, number: int | None) -> None:  # fmt: skip
        change.selected, change.held = number, False

    def _nothing(self, change: "_Change", settings: Settings) -> None:
        """The settings have changed; nothing else has."""

    def _make(self, scene: Scene | None, photo: str, *settings: Any) -> list[str]:
        if scene is None:
            raise UserError("Open a photo first.")
        return pictures.write_files(scene, Settings(*settings), photo)

    def _draw_panel(self, scene: Scene | None, selected: int | None, *settings: Any) -> Any:
        person = None if scene is None else scene.find(selected)
        if scene is None or person is None or not np.any(person.pose(settings[1])[:, 2]):
            return None
        return pictures.alignment_picture(scene, Settings(*settings), person)


class _Change:
    """What an event works on, and what it has to say."""

    def __init__(self, scene: Any, selected: int | None, held: bool, part: int):
        self.scene, self.selected, self.held, self.part = scene, selected, held, part
        self.tool: str | None = None  # another one than before
        self.said = ""

    @property
    def person(self) -> Person | None:
        """Who is selected."""
        return None if self.scene is None else self.scene.find(self.selected)

    def put_down(self) -> Person | None:
        """Ends the move of a part; returns who is selected, and says so where that is nobody."""
        self.held = False
        if self.person is None:
            self.said = "Select a person first."
        return self.person


def _name(part: int) -> str:
    return PART_NAMES[part].replace("_", " ")


def _path(upload: Any) -> str | None:
    """The file of a photo, which Gradio shall not open: our own reader says what is wrong with it."""
    return None if upload is None else upload.path


def _with_pixel(gradio: Any, handle: Callable) -> Callable:
    """A handler that gets the pixel that was clicked as its last argument."""

    # Gradio hands the click over where it finds this annotation.
    def run(event: gradio.SelectData, *arguments: Any) -> Any:
        return handle(*arguments, event.index)

    return run


def _told(gradio: Any, handle: Callable) -> Callable:
    """A handler whose `UserError` is shown on the page."""

    @functools.wraps(handle)
    def run(*arguments, **named):
        try:
            return handle(*arguments, **named)
        except UserError as error:
            raise gradio.Error(str(error), print_exception=False) from None

    return run


def _example_photos() -> list[str]:
    """Returns the photos to begin with."""
    in_clone = sorted(_CLONE.glob("examples/*.jpg")) if (_CLONE / "main.py").is_file() else []
    return [str(path) for path in in_clone or [_EXAMPLE]]
