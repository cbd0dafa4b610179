"""What `make compare` trains: as synthetic.py, with twice the images and more steps."""

import ml_collections

from configs import synthetic


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from synthetic.py."""
    config = synthetic.get_config()
    config.dataset.synthetic.train = 1280
    config.dataset.synthetic.validation = 320
    config.num_steps = 3000
    return config
