"""TensorBoard and the progress line. Imported by training only: clu imports TensorFlow."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np


class MetricsLog:
    """Writes scalars and images for TensorBoard and says how training goes."""

    def __init__(self, workdir: str, num_steps: int, images_per_step: int, *, quiet: bool = False):
        """Opens the log of a run; a `quiet` one (all processes but the first) says and writes nothing."""
        from clu import metric_writers  # imports TensorFlow

        self._writer = metric_writers.create_default_writer(
            workdir, just_logging=quiet, asynchronous=False
        )
        self._num_steps = num_steps
        self._images_per_step = images_per_step
        self._quiet = quiet
        self._clock: tuple[int, float] | None = None

    def say(self, text: str) -> None:
        """Prints."""
        if not self._quiet:
            print(text, flush=True)

    def progress(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of a step and prints a line: step, loss, images/s, time left."""
        now = time.monotonic()
        values = [f"{name} {value:.4g}" for name, value in metrics.items()]
        if self._clock is not None:
            before, then = self._clock
            rate = (step - before) / max(now - then, 1e-9)
            images = rate * self._images_per_step
            metrics = {**metrics, "images_per_second": images}
            left = _hours((self._num_steps - step) / max(rate, 1e-9))
            values += [f"{images:.1f} images/s", f"{left} left"]
        self._clock = (step, now)
        self._writer.write_scalars(step, metrics)
        self.say("  ".join([f"step {step}/{self._num_steps}", *values]))

    def restart_clock(self) -> None:
        """Leaves the time until the next `progress` out of the rate, like that of compiling."""
        self._clock = None

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes scalars without a line."""
        self._writer.write_scalars(step, metrics)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images (H, W, 3) uint8."""
        self._writer.write_images(step, {name: image[None] for name, image in images.items()})
        self._writer.flush()

    def __enter__(self) -> "MetricsLog":
        """For `with`: closes at its end."""
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Flushes everything."""
        self._writer.flush()
        self._writer.close()


def _hours(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
