"""TensorBoard and the progress line. Imported by training only: clu imports TensorFlow."""

import logging
import time
from collections.abc import Mapping

import numpy as np
from clu import metric_writers


class MetricsLog:
    """Writes scalars and images for TensorBoard and says how training goes."""

    def __init__(self, workdir: str, num_steps: int, images_per_step: int, first_step: int):
        """Opens the log of a run that starts (or resumes) at `first_step`."""
        self._writer = metric_writers.create_default_writer(workdir, asynchronous=False)
        self._num_steps = num_steps
        self._images_per_step = images_per_step
        self._last = (first_step, time.monotonic())

    def progress(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of a step and prints a line: step, loss, images/s, time left."""
        before, then = self._last
        now = time.monotonic()
        self._last = (step, now)
        rate = (step - before) / max(now - then, 1e-9)
        left = (self._num_steps - step) / max(rate, 1e-9)
        images = rate * self._images_per_step
        self._writer.write_scalars(step, {**metrics, "images_per_second": images})
        values = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        print(
            f"step {step}/{self._num_steps}  {values}  {images:.1f} images/s  {_clock(left)} left",
            flush=True,
        )

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes scalars without a line."""
        self._writer.write_scalars(step, metrics)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes images (H, W, 3) uint8."""
        self._writer.write_images(step, {name: image[None] for name, image in images.items()})
        self._writer.flush()

    def close(self) -> None:
        """Flushes everything."""
        self._writer.flush()
        self._writer.close()
        logging.info("metrics written")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
