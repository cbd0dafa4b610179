"""As coco_human_compact.py, trained on crops: half of the examples are a square around one person.

    python main.py --config=configs/coco_human_crops.py --workdir=RUN --config.dataset.coco_dir=COCO

A crop shows a person larger than the whole image does. Not trained yet; whole images are what the other configs train on.
"""

import ml_collections

from configs import coco_human_compact


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from coco_human_compact.py."""
    config = coco_human_compact.get_config()
    config.augment.crop_probability = 0.5
    return config
