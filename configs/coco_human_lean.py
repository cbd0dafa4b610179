"""The paper's experiment with a leaner segmentation branch: 6.3 GFLOP a person in place of 33.0.

    python main.py --config=configs/coco_human_lean.py --workdir=RUN --config.dataset.coco_dir=COCO

`LeanSegmentationBranch` in place of the authors'. Not yet trained at this size; for the two branches
compared at a small one see coco_human_small.py.
"""

import ml_collections

from configs import coco_human


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from the paper's."""
    config = coco_human.get_config()
    config.model.branch = {
        "name": "lean",
        "features": 128,
        "units": 4,
        "depth": 2,
        "head_features": 64,
        "head_convs": 1,
    }
    return config
