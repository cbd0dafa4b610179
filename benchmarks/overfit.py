"""Whether the network can learn at all: over-fits a few real persons.

    python benchmarks/overfit.py --coco_dir=COCO --workdir=RUN

Writes a COCO directory of 16 training persons below the work directory, as its training and its
validation split, and trains configs/coco_human_small.py on it without augmentation through
main.py. The table at the end ends with the mean IoU of the 16 masks. Run again, it resumes.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pose2seg_jax.people import coco
from pose2seg_jax.people.coco_layout import annotation_file

_OVERRIDES = (
    "augment.flip=False", "augment.rotation=0.0", "augment.scale=(1.0,1.0)",
    "augment.translation=0.0", "augment.color=0.0", "augment.roi_rotation=0.0",
    "augment.roi_scale=0.0", "augment.roi_translation=0.0", "optimizer.weight_decay=0.0",
    "optimizer.learning_rate=1e-3",
)  # fmt: skip


def write_subset(coco_dir: pathlib.Path, target: pathlib.Path, num_persons: int) -> None:
    path = annotation_file(coco_dir, "train")
    content = json.loads(path.read_text())
    kept = {person.id for person in coco.read(path).persons()[:num_persons]}
    content["annotations"] = [a for a in content["annotations"] if a["id"] in kept]
    images = {a["image_id"] for a in content["annotations"]}
    content["images"] = [i for i in content["images"] if i["id"] in images]
    (target / "annotations").mkdir(parents=True)
    for folder in ("train2017", "val2017"):
        (target / folder).mkdir()
        for image in content["images"]:
            shutil.copy2(coco_dir / "train2017" / image["file_name"], target / folder)
        name = f"person_keypoints_{folder}.json"
        (target / "annotations" / name).write_text(json.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco_dir", type=pathlib.Path, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--persons", type=int, default=16)
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args()
    subset = options.workdir / "coco"
    if not subset.exists():
        partial = options.workdir / "coco.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_subset(options.coco_dir, partial, options.persons)
        partial.rename(subset)
    command = [
        sys.executable,
        str(ROOT / "main.py"),
        f"--config={ROOT / 'configs' / 'coco_human_small.py'}",
        f"--workdir={options.workdir}",
        f"--config.dataset.coco_dir={subset}",
        f"--config.dataset.data_dir={options.workdir / 'tfds'}",
        f"--config.num_steps={options.steps}",
        *(f"--config.{override}" for override in _OVERRIDES),
    ]
    subprocess.run(command, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
