"""JAX waits for ever in a process that was forked from one that used it; here such a process gets an error."""

import os

from pose2seg_jax.prediction.inputs import InputError

_process: int | None = None  # that made the first predictor or estimator


def check_not_forked() -> None:
    """Refuses to compute in a process that was forked from one with a predictor.

    Raises:
        InputError: the process was forked.
    """
    global _process
    _process = _process or os.getpid()
    if os.getpid() != _process:
        raise InputError(
            "this process was forked from one that had a predictor, and JAX does not work after a fork; start workers with"
            " multiprocessing.get_context('spawn'), or make the first predictor in the worker."
        )
