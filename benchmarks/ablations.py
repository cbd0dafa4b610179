"""What each part of the method is worth, on real persons: one change at a time, the same steps.

    python benchmarks/ablations.py --workdir=DIR --config.dataset.coco_dir=COCO [--config.num_steps=1000]

Trains the config (configs/coco_human_small.py) as it is and with one thing changed, evaluates, and
perturbs the poses of the first run. Every run writes one JSON; run again, it goes on where it stopped.
"""

import functools
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ml_collections

from benchmarks import rows
from pose2seg_jax.errors import UserError
from pose2seg_jax.evaluation import coco_protocol
from pose2seg_jax.people import coco_layout
from pose2seg_jax.prediction.network import Network
from pose2seg_jax.program import data, modes, runs

BASE = "as configured"
# Fields that differ from the config.
CHANGES: dict[str, dict[str, Any]] = {
    BASE: {},
    "no Skeleton Features": {"model.skeleton_features": "off"},
    "39 channels": {"model.skeleton_features": "paper"},
    "alignment by box": {"model.alignment.policy": "box"},
    "1 template": {},
    "3 templates": {},
    "no reflection": {"model.alignment.reflect": False},
    "ROI 128": {"model.roi_size": 128},
}
_NUM_TEMPLATES = {"1 template": 1, "3 templates": 3}
# The paper's argument: these with three seeds, the others with one.
_SEVERAL = (BASE, "no Skeleton Features", "alignment by box")
_SEEDS = (0, 1, 2)
_NOISE = (0.0, 0.5, 1.0, 2.0)
_COLUMNS = ("AP (scores 1.0)", "AP", "AP50", "AP75", "AP-M", "AP-L", "mean IoU")


def _slug(name: str, seed: int) -> str:
    return f"{name.lower().replace(' ', '_')}-{seed}"


def changed(
    base: ml_collections.ConfigDict, name: str, seed: int, workdir: pathlib.Path
) -> ml_collections.ConfigDict:
    """The config of a run; templates of another number are made from the training split."""
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(CHANGES[name])
    config.seed = seed
    if count := _NUM_TEMPLATES.get(name):
        made = workdir / f"templates-{count}.json"
        if not made.exists():
            source = coco_layout.annotation_file(data.coco_directory(config), "train")
            modes.write_templates(source, None, count, seed, made)
        config.model.alignment.templates = str(made)
    return config


def _check_record(base: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Raises a UserError where the directory holds numbers of another config."""
    record, ours = workdir / "config.json", base.to_json(indent=1)
    if not record.exists():
        record.write_text(ours)
    elif record.read_text() != ours:
        raise UserError(
            f"{record}: was written for another config; use its flags again, or another --workdir."
        )


def once(output: pathlib.Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The content of a JSON; made first where it is missing."""
    if not output.exists():
        output.write_text(json.dumps(make(), indent=1) + "\n")
    return json.loads(output.read_text())


def _train(config: ml_collections.ConfigDict, run: pathlib.Path) -> dict[str, Any]:
    """Trains what is not trained yet; the metrics at its end."""
    start = time.perf_counter()
    found = runs.train(config, str(run))
    minutes = (time.perf_counter() - start) / 60
    found = found or _evaluate(config, run)  # it had been trained, and stopped before its JSON
    return {"steps": config.num_steps, "minutes, last start": round(minutes, 1), **found}


def _evaluate(config: ml_collections.ConfigDict, run: pathlib.Path) -> dict[str, Any]:
    trained, _ = runs.restore(str(run))
    network = Network(trained.spec, config.dtype, config.prediction.flip)
    return data.open_evaluator(config, network).run(trained.variables).summary()


def ablate(base: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Runs what is missing and prints the tables."""
    workdir.mkdir(parents=True, exist_ok=True)
    _check_record(base, workdir)
    lines: list[Sequence[str]] = [("change", "seeds", *_COLUMNS)]
    for name in CHANGES:
        seeds = _SEEDS if name in _SEVERAL else _SEEDS[:1]
        found = []
        for seed in seeds:
            slug = _slug(name, seed)
            config = changed(base, name, seed, workdir)
            make = functools.partial(_train, config, workdir / slug)
            found.append(once(workdir / f"{slug}.json", make))
        lines.append((name, str(len(seeds)), *(spread([f[c] for f in found]) for c in _COLUMNS)))
    noisy: list[Sequence[str]] = [("pose noise", "", *_COLUMNS)]
    for level in _NOISE:
        config = changed(base, BASE, _SEEDS[0], workdir)
        config.eval.pose_noise = level
        make = functools.partial(_evaluate, config, workdir / _slug(BASE, _SEEDS[0]))
        content = once(workdir / f"noise-{level:g}.json", make)
        noisy.append((f"level {level:g}", "", *(spread([content[c]]) for c in _COLUMNS)))
    for table in (lines, noisy):
        print("\n".join(coco_protocol.align_columns(table, left=1)), end="\n\n")


def spread(values: Sequence[float]) -> str:
    """Mean, and half of what the seeds differ by."""
    text = f"{statistics.mean(values):.3f}"
    return text if len(values) == 1 else f"{text} +-{(max(values) - min(values)) / 2:.3f}"


if __name__ == "__main__":
    rows.run_experiment(ablate, "configs/coco_human_small.py", "What is trained.")
