"""Generated people for `make compare`: twice the images of configs/synthetic.py, and more steps.

python benchmarks/compare.py --workdir=DIR
"""

import ml_collections

from configs import synthetic


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from configs/synthetic.py."""
    config = synthetic.get_config()
    config.dataset.synthetic.train = 1280
    config.dataset.synthetic.validation = 320
    config.num_steps = 3000
    return config
