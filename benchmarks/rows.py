"""What every benchmark of the suite shares: its options, a row of its table, the machine it ran on."""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import runpy
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.models import NetworkSpec
from pose2seg_jax.models.variables import init_variables
from pose2seg_jax.weights import files as weights

HEAD = ("part", "what", "measured", "unit", "reference", "measured", "ratio")
_ROOT = pathlib.Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement, beside a reference measured (or computed from measured rates) in the same run.

    Attributes:
        part: of the suite.
        what: was measured.
        value: the measurement.
        unit: of it.
        reference: what it is compared with; None where there is nothing.
        reference_value: in the same unit.
    """

    part: str
    what: str
    value: float
    unit: str
    reference: str | None = None
    reference_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """Value over reference."""
        return self.value / self.reference_value if self.reference_value else None


def text_table(rows: Sequence[Row]) -> str:
    """The rows as text."""
    lines = [HEAD]
    for row in rows:
        reference = "" if row.reference_value is None else f"{row.reference_value:.4g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        lines.append(
            (
                row.part,
                row.what,
                f"{row.value:.4g}",
                row.unit,
                row.reference or "",
                reference,
                ratio,
            )
        )
    return "\n".join(coco_protocol.align_columns(lines, left=len(HEAD)))


def free_address() -> str:
    """Returns localhost and a port where nobody listens, for processes that must find each other."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def machine() -> dict[str, Any]:
    """Hardware and versions."""
    information = pathlib.Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    devices = jax.local_devices()
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "device": devices[0].device_kind,
        "devices": len(devices),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        "tensorflow": _tensorflow(),
    }


def _tensorflow() -> str | None:
    """Its version; a machine that only trains on prepared arrays has none."""
    for name in ("tensorflow", "tensorflow-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all parts take."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--coco_dir",
        default=os.environ.get("COCO_DIR"),
        help="persons to measure on, in COCO's layout; default: COCO_DIR, else generated people",
    )
    made.add_argument("--data_dir", help="where prepared data is kept")
    made.add_argument(
        "--config",
        default=str(_ROOT / "configs/coco_human_lite.py"),
        help="a config; default: that of the package's model",
    )
    made.add_argument("--output", type=pathlib.Path, help="JSON with the rows and the machine")
    return made


def load_config(options: argparse.Namespace) -> Any:
    """The config that the options name, on their data.

    Raises:
        UserError: there is no such config.
    """
    from configs import synthetic

    if not pathlib.Path(options.config).is_file():
        raise UserError(f"--config={options.config}: is no file; name one of configs/.")
    config = runpy.run_path(options.config)["get_config"]()
    if options.coco_dir:
        config.dataset.coco_dir = options.coco_dir
    elif "synthetic" not in config.dataset:
        config.dataset.synthetic = synthetic.get_config().dataset.synthetic
    if options.data_dir:
        config.dataset.data_dir = options.data_dir
    return config


def run(main: Callable[[], None]) -> None:
    """Runs a part; what the user can mend is one line."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")


def run_experiment(function: Callable[[Any, pathlib.Path], None], config: str, what: str) -> None:
    """Runs what trains: a script with --config, --workdir and all fields of the config as flags.

    Args:
        function: takes the config and the directory for everything that is written.
        config: the file of the default config, from the repository's root.
        what: is done with it, for --help.
    """
    config_flags.DEFINE_config_file("config", str(_ROOT / config), what)
    flags.DEFINE_string("workdir", None, "Where everything is written.", required=True)

    def main(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unknown argument '{argv[1]}'.")
        run(lambda: function(flags.FLAGS.config, pathlib.Path(flags.FLAGS.workdir)))

    app.run(main)


def publish(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Prints the table, and writes the JSON that was asked for."""
    print(text_table(rows), flush=True)
    if options.output:
        entries = [dataclasses.asdict(row) | {"ratio": row.ratio} for row in rows]
        content = {"machine": machine(), "rows": entries}
        options.output.write_text(json.dumps(content, indent=1) + "\n")


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Median time of a call, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def in_turns(*calls: Callable[[], Any], repeats: int) -> list[float]:
    """Median times of calls made in turns: the machine may be busier at one time than at another."""
    for call in calls:
        call()
    times = []
    for _ in range(repeats):
        moments = [time.perf_counter()]
        for call in calls:
            call()
            moments.append(time.perf_counter())
        times.append(np.diff(moments))
    return np.median(times, axis=0).tolist()


@contextlib.contextmanager
def compile_durations(prefix: str) -> Iterator[list[float]]:
    """A list that grows by the seconds of every JAX event whose name starts so."""
    found: list[float] = []

    def record(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event.startswith(prefix):
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(record)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(record)


def network(config: Any, path: pathlib.Path | None = None) -> weights.Weights:
    """The network of a weights file; without one an untrained network, which costs the same time."""
    if path:
        return weights.load(path)
    spec = NetworkSpec.from_config(config.model)
    variables = jax.device_get(init_variables(spec, jax.random.key(0)))
    return weights.Weights(spec, variables, {"made_for": "benchmarks"})
