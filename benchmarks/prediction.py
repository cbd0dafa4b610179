"""What prediction costs: first call, later calls, compilations, memory.

    python benchmarks/prediction.py --weights=FILE.safetensors

Random images and poses: time and memory do not depend on what is in them.
"""

import argparse
import json
import pathlib
import resource
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import numpy as np

from pose2seg_jax import Pose2SegPredictor, templates

REPEATS = 5


def _poses(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    shape = templates.load()[0]
    scale = rng.uniform(0.2, 0.5, (count, 1, 1)) * height
    points = shape[None, :, :2] * scale + rng.uniform(0, 0.5, (count, 1, 2)) * [width, height]
    return np.concatenate([points, np.full((count, 17, 1), 2)], axis=-1)


def _memory() -> float:
    """Largest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    options = parser.parse_args()
    compiled = []

    def count_compilations(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(count_compilations)
    predictor = Pose2SegPredictor.load(options.weights)
    rng = np.random.default_rng(0)
    height, width = 480, 640
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    rows = []
    print(
        f"{jax.devices()[0].device_kind}, image {width}x{height}, network at {predictor.network.image_size}"
    )
    print("persons  first call   later calls   encoded before   MiB so far")
    for count in (1, 2, 4, 8, 16, 32, 60):
        poses = _poses(rng, count, height, width)
        start = time.perf_counter()
        predictor(image, poses)
        first = time.perf_counter() - start
        encoded = predictor.encode(image)
        later, asked = [], []
        for _ in range(REPEATS):
            start = time.perf_counter()
            predictor(image, poses)
            later.append(time.perf_counter() - start)
            start = time.perf_counter()
            predictor(encoded, poses)
            asked.append(time.perf_counter() - start)
        row = {
            "persons": count,
            "first_s": first,
            "later_s": float(np.median(later)),
            "encoded_s": float(np.median(asked)),
            "memory_mib": _memory(),
        }
        rows.append(row)
        print(
            f"{count:7}  {first:8.2f} s  {row['later_s']:10.3f} s  {row['encoded_s']:13.3f} s"
            f"  {row['memory_mib']:10.0f}"
        )
    print(f"{len(compiled)} compilations")
    print(json.dumps({"rows": rows, "compilations": len(compiled)}))


if __name__ == "__main__":
    main()
