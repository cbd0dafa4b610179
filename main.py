"""pose2seg_jax: train, evaluate, predict, make templates, convert weights; `python main.py --help` lists it all."""

import logging
import sys

from pose2seg_jax.program import flags

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    flags.run(sys.argv)
