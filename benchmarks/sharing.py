"""Photos a second of `--engine=ray` with one and two workers beside the plain command, and whether all give the same.

    python -m benchmarks.sharing --coco_dir=COCO --photos=400

With two workers, one is killed on the way. The results of every run must be those of the plain command, byte for byte.
Needs `pip install "pose2seg_jax[ray]"`.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks import rows
from pose2seg_jax.errors import UserError
from pose2seg_jax.people import coco_layout

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def _predict(photos: pathlib.Path, output: pathlib.Path, *more: str, kill: bool = False) -> float:
    """Runs the command, and returns its seconds.

    Raises:
        UserError: it fails, or no worker could be killed.
    """
    command = [sys.executable, str(_ROOT / "main.py"), "--mode=predict", f"--image={photos}", f"--output={output}", "--quiet", *more]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed: list[int] = []
    if kill:
        watch = threading.Thread(target=_kill_one, args=(process, output, killed))
        watch.start()
    said, errors = process.communicate()
    seconds = time.perf_counter() - start
    if process.returncode:
        raise UserError(f"{' '.join(command)}: {errors}")
    if kill:
        watch.join()
        if not killed:
            raise UserError("no worker was killed: they had done their photos before.")
    print(f"{' '.join(more) or 'plain'}: {said.strip()} ({seconds:.1f} s)", flush=True)
    return seconds


def _kill_one(process: subprocess.Popen, output: pathlib.Path, killed: list[int]) -> None:
    """Kills a worker that has done some photos."""
    while process.poll() is None and not killed:
        time.sleep(0.2)
        for journal in output.glob("job-worker-*.jsonl"):
            if _done(journal) >= 20:
                killed.append(int(journal.name.split("-")[2]))
                os.kill(killed[0], signal.SIGKILL)
                break


def _done(journal: pathlib.Path) -> int:
    """How many photos a journal names; its last line may be incomplete."""
    return sum("photo" in json.loads(line) for line in journal.read_text().splitlines(True) if line.endswith("\n"))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco_dir", required=True, help="its training images are predicted")
    parser.add_argument("--photos", type=int, default=400)
    options = parser.parse_args()
    images = pathlib.Path(coco_layout.image_directory(options.coco_dir, "train"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        (folder / "photos").mkdir()
        for image in sorted(images.iterdir())[: options.photos]:
            os.symlink(image.resolve(), folder / "photos" / image.name)
        count = len(list((folder / "photos").iterdir()))
        runs = {
            "plain": _predict(folder / "photos", folder / "plain"),
            "one worker": _predict(folder / "photos", folder / "one", "--engine=ray", "--workers=1"),
            "two workers": _predict(folder / "photos", folder / "two", "--engine=ray", "--workers=2"),
            "two workers, one of them killed": _predict(
                folder / "photos", folder / "killed", "--engine=ray", "--workers=2", kill=True
            ),
        }  # fmt: skip
        results = {(folder / name / "results.json").read_bytes() for name in ("plain", "one", "two", "killed")}  # fmt: skip
        journals = [*(folder / "killed").glob("job-worker-*.jsonl")]
        again = sum(map(_done, journals)) - count
    plain = count / runs["plain"]
    print(rows.text_table([rows.Row("sharing", f"{count} photos, {name}", count / seconds, "photos/s", "plain", plain) for name, seconds in runs.items()]))  # fmt: skip
    print(f"after the kill {again} photos were predicted again")
    if len(results) > 1:
        raise UserError("the results are not equal.")
    print("all results are equal, byte for byte")


if __name__ == "__main__":
    rows.run(main)
