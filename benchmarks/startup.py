"""How long a program takes to its first result, each in a process of its own.

python -m benchmarks.startup
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks import rows
from pose2seg_jax.weights import files as weights

_IMPORT = "import pose2seg_jax"
_FIRST = """
import numpy as np
from pose2seg_jax import Pose2SegPredictor
from pose2seg_jax.alignment import templates
predictor = Pose2SegPredictor.load({weights!r})
pose = np.concatenate([templates.load()[0, :, :2] * 200 + 100, np.full((17, 1), 2)], 1)
predictor(np.zeros((480, 640, 3), np.uint8), pose[None])
"""


def _run(script: str, environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", script], env=os.environ | environment, check=True)
    return time.perf_counter() - start


def main() -> None:
    options = rows.parser(__doc__.splitlines()[0]).parse_args()
    _run(_IMPORT, {})  # fills the disk's cache
    nothing = min(_run("pass", {}) for _ in range(3))
    jax_alone = min(_run("import jax", {}) for _ in range(3))
    imported = min(_run(_IMPORT, {}) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "weights.safetensors"
        weights.save(path, rows.network(rows.load_config(options)))
        script = _FIRST.format(weights=str(path))
        cached = {
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        cold = _run(script, cached)
        warm = min(_run(script, cached) for _ in range(3))
    rows.publish(
        [
            rows.Row(
                "start",
                "import pose2seg_jax",
                imported - nothing,
                "s",
                "import jax",
                jax_alone - nothing,
            ),
            rows.Row(
                "start", "program to its first masks, cold", cold, "s", "its import", imported
            ),
            rows.Row("start", "the same with a warm compilation cache", warm, "s", "cold", cold),
        ],
        options,
    )


if __name__ == "__main__":
    rows.run(main)
