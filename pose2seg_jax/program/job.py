"""What a prediction has done so far, so that one that was stopped goes on and nothing of others is overwritten.

`OUTPUT/job.jsonl` says what the job is; then, for each photo, the files that it is about to write, and its results when they
are complete. Where several processes share the photos, each has a journal of its own, `job-PART.jsonl`, and reads those of the
others. The job without a part treats what all of them did as done, and writes the results.
"""

import contextlib
import hashlib
import json
import operator
import pathlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pose2seg_jax import paths
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import masks
from pose2seg_jax.people.polygons import polygons
from pose2seg_jax.program.journal import DamagedError, Journal

RESULTS = "results.json"
POLYGONS = "polygons.json"


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


class _Known(NamedTuple):
    """What the journal says of a photo.

    Attributes:
        state: all that its results depend on, beside the job; None where they are those of a part of a video.
        name: of the photo, relative to the output.
        at: when it was noted, in nanoseconds; of several notes the newest of a complete photo counts.
        done: what was written.
    """

    state: list[Any] | None
    name: str
    at: int
    done: Done

    def with_files_of(self, other: "_Known") -> "_Known":
        """Returns this note with the files of another note of the same state: other kinds were asked for."""
        files = dict.fromkeys([*other.done.files, *self.done.files])
        kinds = dict.fromkeys([*other.done.kinds, *self.done.kinds])
        return self._replace(done=Done(self.done.entries, list(files), list(kinds)))


class Job:
    """A prediction that writes into a directory. Several threads may use it."""

    def __init__(
        self,
        directory: pathlib.Path,
        identity: Mapping[str, Any],
        *,
        overwrite: bool,
        part: str | None = None,
        anew: bool | None = None,
    ):
        """Reads what the directory holds; `writing` writes.

        Args:
            directory: for the results; it exists.
            identity: what decides what all masks are, ready for JSON: the network, the options.
            overwrite: whether what the directory holds of others is replaced.
            anew: whether everything is done again; None for as `overwrite`.
            part: the name of this process among several that share the photos; None for the job that writes the results.

        Raises:
            UserError: the directory holds results of another job, or files of others in the place of results.
        """
        self.directory, self.part = directory, part
        name = "job.jsonl" if part is None else f"job-{part}.jsonl"
        self._journal = Journal(directory / name)
        self._identity = json.loads(json.dumps(identity))
        self._overwrite, self._anew = overwrite, overwrite if anew is None else anew
        self._ways_out = "name another --output"
        if part is None:
            self._ways_out += ", or give --overwrite to begin anew"
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._paths: dict[str, str] = {}  # of the photos, by their names
        self._files: set[str] = set()  # of all parts
        self._own: set[str] = set()  # of this part
        self._hashes: set[str] = set()
        for other in self._others():
            self._take(other)
        self._is_new = not self._take(self._journal) or self._anew
        for name in (RESULTS, POLYGONS):
            self._check_results(directory / name)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Starts the journal, or goes on with it; nothing is written outside of this context.

        Raises:
            UserError: it cannot be written, or another process is writing it.
        """
        files, start = self._own, [{"job": self._identity}]
        if self.part is None:  # nobody else is writing
            for other in self._others():
                if other.is_written():
                    raise UserError(f"{other.path}: another process is still at work here; wait for it, or name another --output.")  # fmt: skip
            files = {*self._files, RESULTS, POLYGONS}
            start += [{"files": sorted(self._files)}]
            start += [{"wrote": known} for known in sorted(self._hashes)]
        with self._journal.writing(start if self._is_new else None):
            if self.part is None and self._anew:  # what they knew is in our own journal now
                for other in self._others():
                    other.path.unlink(missing_ok=True)
            names = {*files, self._journal.path.name}
            paths.remove_partial(self.directory / name for name in names)
            yield

    def wait_for_parts(self, seconds: float) -> None:
        """Returns when no other process is at work, or after so many seconds."""
        until = time.monotonic() + seconds
        while any(other.is_written() for other in self._others()) and time.monotonic() < until:
            time.sleep(0.1)

    def is_done(self, photo: pathlib.Path, state: Sequence[Any], kinds: Iterable[str]) -> bool:
        """Returns whether a photo was done, is as it was then, and all of its files are there.

        Args:
            photo: the file.
            state: what its results depend on, beside the file and the job.
            kinds: of the files that are asked for.
        """
        known = self._known.get(str(photo))
        if known is None or known.state != [*_stamp(photo), *state] or not photo.exists():
            return False
        files = all((self.directory / name).exists() for name in known.done.files)
        return files and set(kinds) <= set(known.done.kinds)

    def check_name(self, photo: pathlib.Path, name: str) -> None:
        """Checks that no other photo has the name of a photo that is about to be predicted.

        Raises:
            UserError: one has, from another folder.
        """
        path = self._paths.get(name, str(photo))
        if path != str(photo):
            raise UserError(
                f"{self.directory}: holds results of {path}, which has the name of {photo}; name another --output."
            )

    def has(self, photo: pathlib.Path) -> bool:
        """Returns whether there are results of a photo, complete or not."""
        return str(photo) in self._known

    def check_free(self, names: Iterable[str]) -> None:
        """Checks that writing files overwrites none of others.

        Raises:
            UserError: it would.
        """
        for name in names:
            target = self.directory / name
            if name in self._files or self._overwrite or not target.exists():
                continue
            for other in self._others():  # another part may have written it since
                self._files.update(file for line in self._lines(other) for file in line.get("files", ()))  # fmt: skip
            if name not in self._files:
                raise UserError(
                    f"{target}: was not written by this prediction, and would be overwritten; {self._ways_out}."
                )

    def claim(self, names: Sequence[str]) -> None:
        """Notes that files are about to be written, so that they are known when the program is killed.

        Raises:
            UserError: one is there already, and is of others.
        """
        with self._lock:
            self.check_free(names)
            new = [name for name in names if name not in self._files]
            self._files.update(new)
            self._own.update(names)
            if new:
                self._journal.append({"files": new})

    def add(self, photo: pathlib.Path, name: str, state: Sequence[Any], done: Done) -> None:
        """Notes that a photo's files are complete.

        Args:
            photo: the file.
            name: of the photo, relative to the output.
            state: as for `is_done`.
            done: what was written.

        Raises:
            UserError: the note cannot be written.
        """
        with self._lock:
            whole = [*_stamp(photo), *state]
            known, before = _Known(whole, name, time.time_ns(), done), self._known.get(str(photo))
            if before is not None and before.state == whole:
                known = known.with_files_of(before)
            elif before is not None:
                for old in set(before.done.files) - set(done.files):
                    with contextlib.suppress(OSError):
                        (self.directory / old).unlink()
            self._note(photo, known)

    def add_part(self, photo: pathlib.Path, name: str, done: Done) -> None:
        """Notes the results of a video that was not read to its end, unless there are more.

        Raises:
            UserError: the note cannot be written.
        """
        with self._lock:
            before = self._known.get(str(photo))
            if done.entries and (before is None or len(before.done.entries) < len(done.entries)):
                self._note(photo, _Known(None, name, time.time_ns(), done))

    def finish(self, photos: Iterable[pathlib.Path], kinds: Iterable[str]) -> int:
        """Writes the results of all photos: those that are named now in their order, then those of before.

        A part writes none: its results are in its journal.

        Args:
            photos: that are named now.
            kinds: "coco" and "polygons" have a file each.

        Returns:
            The number of masks in the results; for a part, the number of masks of the photos that are named.

        Raises:
            UserError: they cannot be written.
        """
        if not self._known:  # nothing was done: what is there stays
            return 0
        order = dict.fromkeys(map(str, photos))
        if self.part is None:
            order |= dict.fromkeys(self._known)
        found = [self._known[name].done for name in order if name in self._known]
        entries = [entry for done in found for entry in done.entries]
        if self.part is not None:
            return len(entries)
        for name, kind in ((RESULTS, "coco"), (POLYGONS, "polygons")):
            if kind in kinds:
                written = entries if kind == "coco" else [self._with_polygons(entry) for entry in entries]  # fmt: skip
                data = json.dumps(written).encode()
                # Noted first: a file that is there and not noted would be somebody else's.
                self._journal.append({"wrote": _hash(data)})
                paths.write_atomically(self.directory / name, data)
        return len(entries)

    def _note(self, photo: pathlib.Path, known: _Known) -> None:
        self._known[str(photo)] = known
        self._paths[known.name] = str(photo)
        line = {**known._asdict(), **known.done._asdict()}
        del line["done"]
        self._journal.append({"photo": str(photo), **line})

    def _others(self) -> list[Journal]:
        """The journals of the other processes that share the photos, or did."""
        own = self._journal.path
        found = sorted(self.directory.glob("job-*.jsonl"))
        if self.part is not None:
            found = [self.directory / "job.jsonl", *found]
        return [Journal(path) for path in found if path != own]

    def _lines(self, journal: Journal) -> list[dict[str, Any]]:
        """The lines of a journal behind the first; none where it is missing.

        Raises:
            UserError: it is damaged, or of another job.
        """
        try:
            lines = journal.read()
        except (DamagedError, IsADirectoryError):
            # Of a part, not even --overwrite takes what may be another program's.
            if journal is not self._journal:
                raise UserError(f"{journal.path}: is damaged, or of another program; remove it, or name another --output.") from None  # fmt: skip
            if self._anew:
                return []
            raise UserError(f"{journal.path}: is damaged, or of another program; {self._ways_out}.") from None  # fmt: skip
        if not self._anew and lines and lines[0]["job"] != self._identity:
            before = lines[0]["job"]
            other = [n for n in self._identity if before.get(n) != self._identity[n]]
            raise UserError(f"{self.directory}: holds results of another prediction (other {', '.join(other)}), by its {journal.path.name}; {self._ways_out}.")  # fmt: skip
        return lines[1:]

    def _take(self, journal: Journal) -> bool:
        """Takes what a journal says; returns whether it says something."""
        lines = self._lines(journal)
        for line in lines:
            if "wrote" in line:
                self._hashes.add(line["wrote"])
                continue
            self._files.update(line["files"])
            self._own.update(line["files"] if journal is self._journal else ())
            if "photo" in line and not self._anew:
                done = Done(line["entries"], line["files"], line["kinds"])
                known = _Known(line["state"], line["name"], line["at"], done)
                self._remember(line["photo"], known)
        return bool(lines)

    def _remember(self, photo: str, known: _Known) -> None:
        """Takes a note of a photo, of which there may be others, in any order."""
        older, newer = known, self._known.get(photo, known)
        if (older.state is not None, older.at) > (newer.state is not None, newer.at):
            older, newer = newer, older
        if older.state == newer.state is not None:
            newer = newer.with_files_of(older)
        self._known[photo], self._paths[newer.name] = newer, photo

    def _with_polygons(self, entry: dict[str, Any]) -> dict[str, Any]:
        """A result whose mask is polygons; [] where it is empty.

        Raises:
            UserError: it has no mask.
        """
        try:
            mask = entry["segmentation"]
            height, width = map(operator.index, mask["size"])
            rle = masks.encode_segmentation(mask, height, width)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{self.directory}: {self._journal.path.name}, or the journal of a part, is damaged: a result has no mask; {self._ways_out}.") from None  # fmt: skip
        return {**entry, "segmentation": [ring.ravel().tolist() for ring in polygons(rle)]}

    def _check_results(self, target: pathlib.Path) -> None:
        """Refuses a results file that this job has not written, or takes it for its own where it may be replaced."""
        if not target.exists():
            return
        found = None
        if target.is_file():
            with open(target, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        if self._overwrite and found:
            self._hashes.add(found)
        elif found not in self._hashes:
            raise UserError(f"{target}: was not written by this prediction, and would be overwritten; {self._ways_out}.")  # fmt: skip


def _stamp(path: pathlib.Path) -> tuple[int, int]:
    """Size and time of a file; zeros where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
