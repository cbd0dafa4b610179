"""`--engine=ray`: Ray shares the photos of a prediction among processes, of this machine or of a cluster.

Every worker is a part of the job (job.py), with a journal of its own in the output directory, which all machines must see. Ray
starts a worker that is lost again, and gives its photos to another. What comes behind is the plain command: it takes what
is in the journals for done, does what no worker could, says why photos were skipped, and writes the results.
"""

import contextlib
import json
import logging
import math
import os
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

from pose2seg_jax import progress
from pose2seg_jax.errors import UserError
from pose2seg_jax.program.flags import Command
from pose2seg_jax.program.predict import Tally

# Photos that a worker is given at a time, at most: of a lost worker so many are predicted again.
_BATCH = 16


def run(command: Command) -> tuple[int, Tally]:
    """Lets workers predict what is not done yet.

    Returns:
        How many photos they did, and what they met on the way.

    Raises:
        UserError: Ray is not installed, or a worker failed for a reason that the photos are not at fault for.
    """
    ray = _import_ray()
    from pose2seg_jax.program import modes

    opened = modes.open_prediction(command)
    missing = opened.prediction.missing(opened.photos)
    opened.prediction.check(missing)
    tally = Tally()
    with opened.job.writing():
        if not missing:
            return 0, tally
        if not ray.is_initialized():
            # Ray warns of what it is meant to do: start processes, and start lost ones again.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="os.fork", category=RuntimeWarning)
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
        try:
            done = _workers_results(ray, command, [str(photo.path) for photo in missing])
            for said in progress.show(done, "photos", "photo", len(missing)):
                tally.empty += said["empty"]
                tally.skipped += said["skipped"]
                tally.left_out.update(said["left_out"])
        except ray.exceptions.RayError as error:
            cause: BaseException = error
            while inner := getattr(cause, "cause", None) or cause.__cause__:
                cause = inner
            reason = str(cause) if isinstance(cause, UserError) else repr(cause)
            raise UserError(f"--engine=ray: a worker failed: {reason}") from None
        finally:
            ray.shutdown()
    return len(missing) - tally.skipped, tally


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError:
        raise UserError('--engine=ray needs Ray: pip install "pose2seg_jax[ray]".') from None
    return ray


def _workers_results(ray: Any, command: Command, missing: list[str]) -> Iterator[dict[str, Any]]:
    """Yields what workers say of each photo."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # What it logs as an error it raises too.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    workers = command.workers or gpus or len(ray.nodes())
    workers = min(workers, len(missing))
    size = min(_BATCH, math.ceil(len(missing) / workers))
    rows = ray.data.from_items(
        [{"photo": photo} for photo in missing],
        override_num_blocks=math.ceil(len(missing) / size),
    )
    done = rows.map_batches(
        Worker,
        batch_size=size,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=1 if gpus else 0,
        fn_constructor_args=({**vars(command)}, os.getcwd()),
    )
    return (json.loads(row["said"]) for row in done.iter_rows())


class Worker:
    """A process that predicts some of a command's photos."""

    def __init__(self, fields: dict[str, Any], directory: str):
        """Opens the network, the poses and a journal.

        Args:
            fields: of the command.
            directory: to which its paths are relative.
        """
        from pose2seg_jax.program import modes

        os.chdir(directory)
        progress.be_quiet()
        values = {**fields["values"], "overwrite": None}  # the first process has begun anew
        command = Command(**{**fields, "values": values})
        self._opened = modes.open_prediction(
            command, part=f"worker-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        )
        self._photos = {str(photo.path): photo for photo in self._opened.photos}
        self._stack = contextlib.ExitStack()  # as long as the process lives
        self._stack.enter_context(self._opened.job.writing())

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Predicts photos.

        Args:
            batch: {"photo": paths}.

        Returns:
            {"said": for each photo what was met, as JSON}.
        """
        prediction, said = self._opened.prediction, []
        for path in batch["photo"]:
            prediction.tally = Tally()
            prediction.work([self._photos[path]])
            said.append(json.dumps(vars(prediction.tally)))
        return {"said": said}
