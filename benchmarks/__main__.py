"""The whole suite: every part in a process of its own, one table.

    python -m benchmarks --coco_dir=COCO --output=FILE.json

Each part runs alone too: `python -m benchmarks.training --coco_dir=COCO`.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from benchmarks import rows

_PARTS = (
    "startup",
    "pose_files",
    "input_stream",
    "training",
    "stages",
    "formulations",
    "prediction",
    "pose_estimation",
    "page",
    "evaluation",
)


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    passed = ["--config", options.config]
    for name in ("coco_dir", "data_dir"):
        if value := getattr(options, name):
            passed += [f"--{name}", value]
    found: list[rows.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in _PARTS:
            output = pathlib.Path(folder) / f"{part}.json"
            command = [sys.executable, "-m", f"benchmarks.{part}", *passed, "--output", str(output)]
            if code := subprocess.run(command, check=False).returncode:
                sys.exit(code)  # the part has said why
            for entry in json.loads(output.read_text())["rows"]:
                del entry["ratio"]
                found.append(rows.Row(**entry))
    print()
    rows.publish(found, options)


if __name__ == "__main__":
    rows.run(main)
