"""`--engine=ray`: Ray shares the photos of a prediction among processes, of this machine or of a cluster.

Every worker is a part of the job (job.py), with a journal of its own in the output directory, which all machines must see. If a
worker is lost, Ray starts another and gives it the photos. Afterwards the plain command runs: it treats the photos in the
journals as done, does those that no worker could, says why photos were skipped, and writes the results.
"""

import contextlib
import itertools
import json
import logging
import math
import os
import re
import socket
import uuid
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from pose2seg_jax import progress
from pose2seg_jax.errors import UserError
from pose2seg_jax.program.flags import Command
from pose2seg_jax.program.predict import Tally, stop_on_sigterm

# Photos that a worker is given at a time. At most so many are predicted again where a worker is lost.
_BATCH = 16
# Of these photos, where workers are lost, and of the start of a worker; then they are left to the plain command.
_TRIES = 3
_PATIENCE = 60.0  # seconds until a worker that Ray has released has ended


def run(command: Command) -> tuple[int, Tally]:
    """Lets workers predict what is not done yet.

    Returns:
        How many photos they did, and what they met on the way.

    Raises:
        UserError: Ray is not installed, or no worker could do anything.
    """
    ray = _import_ray()
    from pose2seg_jax.program import modes

    # The devices are for the workers.
    opened = modes.open_prediction(command, computes=False)
    missing = opened.prediction.missing(opened.photos)
    opened.prediction.check(missing)
    done, tally = 0, Tally()
    if not missing:
        return done, tally
    with opened.job.writing():
        try:
            with warnings.catch_warnings():
                # Of what is meant: processes are started. And of the one way to limit tries, until Ray has another.
                warnings.filterwarnings("ignore", message="os.fork|`ray_remote_args`")
                _start(ray)
                results = _workers_results(ray, command, [str(photo.path) for photo in missing])
            photos = _add_up(results, tally)
            with stop_on_sigterm():
                done = sum(1 for _ in progress.show(photos, "photos", "photo", len(missing)))
        except UserError:
            raise
        except Exception as error:  # Ray's, and those of its libraries
            raise UserError(
                f"--engine=ray: its workers failed: {_reason(error):.300}; the command without --engine needs none."
            ) from None
        finally:
            ray.shutdown()
            opened.job.wait_for_parts(_PATIENCE)
    if done < len(missing):
        logging.warning("workers could not do %d photos; they are done here.", len(missing) - done)
    return done - tally.skipped, tally


def _add_up(results: Iterable[dict[str, Any]], tally: Tally) -> Iterator[None]:
    """Adds what workers met to a tally, and yields once for each photo."""
    for result in results:
        tally.skipped += result["skipped"]
        tally.empty += result["empty"]
        tally.left_out.update(result["left_out"])
        yield from itertools.repeat(None, result["photos"])


def _start(ray: Any) -> None:
    """Joins the cluster of RAY_ADDRESS, or starts Ray on this machine.

    Raises:
        UserError: nothing answers at the address.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():  # Ray itself would try for minutes
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise UserError(
                f"RAY_ADDRESS={address}: nothing answers there ({error}); start Ray with 'ray start', or unset RAY_ADDRESS."
            ) from None
    # It calls it an error that lost workers will be started again.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray.init(log_to_driver=False, logging_level=logging.ERROR)


def _reason(error: BaseException) -> str:
    """What went wrong, of an error that Ray has wrapped."""
    found = re.findall(r"UserError: (.*)", str(error))
    last = found[-1] if found else next(iter(str(error).strip().splitlines()[::-1]), repr(error))
    return last.rstrip(".")


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError('--engine=ray needs Ray: pip install "pose2seg_jax[ray]".') from None
    return ray


def _workers_results(ray: Any, command: Command, missing: list[str]) -> Iterator[dict[str, Any]]:
    """Yields what workers say of each batch."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # what workers cannot do is left to the plain command
    context.max_consecutive_actor_init_deaths = _TRIES - 1
    # What it logs as an error it raises too.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    machines = sum(node["Alive"] for node in ray.nodes())
    workers = command.workers or gpus or machines
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
        max_task_retries=_TRIES - 1,
        max_restarts=_TRIES - 1,
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
        part = f"worker-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        # The first process has begun anew, where that was asked for.
        self._opened = modes.open_prediction(Command(**fields), part, anew=False)
        self._photos = {str(photo.path): photo for photo in self._opened.photos}
        self._stack = contextlib.ExitStack()  # as long as the process lives
        self._stack.enter_context(self._opened.job.writing())

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Predicts photos.

        Args:
            batch: {"photo": paths}.

        Returns:
            {"said": one JSON object: how many photos, and the tally of what was met}.
        """
        prediction, paths = self._opened.prediction, batch["photo"]
        prediction.tally = Tally()
        prediction.work([self._photos[path] for path in paths])
        return {"said": [json.dumps({"photos": len(paths), **vars(prediction.tally)})]}
