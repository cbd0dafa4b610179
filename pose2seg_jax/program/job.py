"""What a prediction has done so far, so that one that was stopped goes on.

`OUTPUT/job.jsonl` is a line of JSON for what the job is, and one for each photo whose files are complete. A line is written
at once, so a program that is killed loses at most the photos that it was working on.
"""

import hashlib
import json
import logging
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people.polygons import polygons

RESULTS = "results.json"
POLYGONS = "polygons.json"
_JOURNAL = "job.jsonl"
_ANEW = "name another --output, or give --overwrite to replace it"


class Done(NamedTuple):
    """What was written for a photo or video.

    Attributes:
        entries: of the COCO results file.
        files: names of the pictures, relative to the output.
        kinds: of the pictures.
    """

    entries: list[dict[str, Any]]
    files: list[str]
    kinds: list[str]


class Job:
    """A prediction that writes into a directory."""

    def __init__(self, directory: pathlib.Path, identity: Mapping[str, Any], *, overwrite: bool):
        """Opens a job, or begins it.

        Args:
            directory: for the results; it exists.
            identity: all that decides what the masks of a photo are, ready for JSON.
            overwrite: whether what the directory holds is replaced.

        Raises:
            UserError: the directory holds results of another job, or files of other programs that would be overwritten.
        """
        self.directory = directory
        self._journal = directory / _JOURNAL
        self._done: dict[str, tuple[list[Any], Done]] = {}
        self._hashes: set[str] = set()
        identity = json.loads(json.dumps(identity))
        lines = [] if overwrite else self._read()
        if lines and lines[0] != {"job": identity}:
            before = lines[0].get("job", {}) if isinstance(lines[0], dict) else {}
            other = [name for name in identity if before.get(name) != identity[name]]
            raise UserError(
                f"{directory}: holds results of another prediction (other {', '.join(other)}); {_ANEW}."
            )
        self.is_new = not lines
        for line in lines[1:]:
            if "wrote" in line:
                self._hashes.add(line["wrote"])
            else:
                self._done[line["photo"]] = (
                    line["state"],
                    Done(line["entries"], line["files"], line["kinds"]),
                )
        if not overwrite:
            for name in (RESULTS, POLYGONS):
                self._check_ours(directory / name)
        if not lines:
            paths.write_atomically(self._journal, json.dumps({"job": identity}) + "\n")

    def is_done(
        self, photo: pathlib.Path, names: Sequence[int | str], kinds: Iterable[str]
    ) -> bool:
        """Returns whether a photo was done, is as it was then, and all of its files are there.

        Args:
            photo: the file.
            names: what its pictures and its results are called.
            kinds: of the files that are asked for.
        """
        state, found = self._done.get(str(photo), (None, None))
        if found is None or state != [*_stamp(photo), *names] or not photo.exists():
            return False
        files = all((self.directory / name).exists() for name in found.files)
        return files and set(kinds) <= set(found.kinds)

    def add(self, photo: pathlib.Path, names: Sequence[int | str], done: Done) -> None:
        """Notes that a photo's files are complete.

        Args:
            photo: the file.
            names: as for `is_done`; none where it is not complete, and only its results are to be kept.
            done: what was written.

        Raises:
            UserError: the note cannot be written.
        """
        state = [*_stamp(photo), *names]
        self._done[str(photo)] = state, done
        self._append({"photo": str(photo), "state": state, **done._asdict()})

    def finish(self, photos: Iterable[pathlib.Path], kinds: Iterable[str]) -> int:
        """Writes the results of all photos: those that are named now in their order, then those of before.

        Args:
            photos: that are named now.
            kinds: "coco" and "polygons" have a file each.

        Returns:
            How many masks there are.

        Raises:
            UserError: they cannot be written.
        """
        order = dict.fromkeys([*map(str, photos), *self._done])
        entries = [entry for name in order if name in self._done for entry in self._done[name][1].entries]  # fmt: skip
        for name, kind in ((RESULTS, "coco"), (POLYGONS, "polygons")):
            if kind in kinds:
                written = (
                    entries if kind == "coco" else [_with_polygons(entry) for entry in entries]
                )
                # Noted first: a file that is there and not noted would be somebody else's.
                self._append({"wrote": _hash(json.dumps(written).encode())})
                coco_protocol.save_results(self.directory / name, written)
        return len(entries)

    def _read(self) -> list[Any]:
        """The lines of the journal; one that was cut when the program was killed is taken out."""
        if not self._journal.exists():
            return []
        kept = []
        data = self._journal.read_bytes()
        for line in data.splitlines(keepends=True):
            try:
                kept.append(json.loads(line)) if line.endswith(b"\n") else None
            except ValueError:
                raise UserError(f"{self._journal}: is damaged; {_ANEW}.") from None
        if data and not data.endswith(b"\n"):
            logging.warning("%s: its last line is incomplete and is left out.", self._journal)
            paths.write_atomically(self._journal, data[: data.rfind(b"\n") + 1])
        return kept

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            with open(self._journal, "ab", buffering=0) as file:
                file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise UserError(f"{self._journal}: cannot be written: {error.strerror}.") from None

    def _check_ours(self, target: pathlib.Path) -> None:
        """Refuses a file that this job has not written."""
        if not target.exists():
            return
        if not target.is_file() or _hash(target.read_bytes()) not in self._hashes:
            raise UserError(f"{target}: was not written by this prediction, and would be overwritten; {_ANEW}.")  # fmt: skip


def fingerprint(path: str | os.PathLike) -> str:
    """Returns what a file, or the files of a folder, are: of a folder, their names, sizes and times."""
    path = pathlib.Path(path)
    if not path.is_dir():
        return _hash(path.read_bytes())
    files = sorted(file for file in path.iterdir() if file.is_file())
    return _hash(json.dumps([(file.name, *_stamp(file)) for file in files]).encode())


def _stamp(path: pathlib.Path) -> tuple[int, int]:
    """Size and time of a file; zeros where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _with_polygons(entry: dict[str, Any]) -> dict[str, Any]:
    """A result whose mask is polygons; [] where it is empty."""
    mask = entry["segmentation"]
    rle = {"size": mask["size"], "counts": mask["counts"].encode()}
    return {**entry, "segmentation": [ring.ravel().tolist() for ring in polygons(rle)]}
