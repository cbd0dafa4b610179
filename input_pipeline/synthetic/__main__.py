"""Writes a COCO-layout directory of generated people.

python -m input_pipeline.synthetic --output=DIR --train=1000 --validation=200 --size=256 --seed=0
"""

import argparse
import dataclasses
import time
from typing import Any

from input_pipeline.synthetic.dataset import Recipe, write
from pose2seg_jax.errors import run_program
from pose2seg_jax.people import coco


def main() -> None:
    """Writes a directory and says what is in it."""
    parser = argparse.ArgumentParser(
        prog="python -m input_pipeline.synthetic", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--output", required=True, help="directory that does not exist yet")
    for field in dataclasses.fields(Recipe):
        how: Any = {"type": type(field.default)}
        if isinstance(field.default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(f"--{field.name}", default=field.default, **how)
    options = vars(parser.parse_args())
    output, recipe = options.pop("output"), Recipe(**options)
    start = time.monotonic()
    write(recipe, output)
    seconds = time.monotonic() - start
    made = recipe.train + recipe.validation
    print(f"{made} images in {seconds:.0f} s, {made / seconds:.1f} a second, in {output}")
    for folder in ("train2017", "val2017"):
        counts = coco.counts(coco.read(f"{output}/annotations/person_keypoints_{folder}.json"))
        print(f"{folder}: {counts}")


if __name__ == "__main__":
    run_program(main)
