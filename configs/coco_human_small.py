"""A small network at 256 px that two CPU cores can train: 0.49 M parameters, the lean branch.

    python main.py --config=configs/coco_human_small.py --workdir=RUN --config.dataset.coco_dir=COCO

1,446 persons, 1,000 steps of 8, seed 0, two CPU cores, 0.8 s a step on an older machine, 0.2 s on a newer
one (--config.num_steps=1000): AP 0.263 with all scores 1.0, 0.365 with the model's own, mean IoU 0.646 on
our 724 validation persons. The authors' branch at this width, five times the operations, has 0.249 / 0.349, 0.632 after as many steps; it is

    config.model.branch = {"name": "paper", "features": 32, "units": 8, "head_features": 16,
                           "stem_features": 96, "stem_kernel": 3}
"""

import ml_collections

from configs import coco_human


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from the paper's."""
    config = coco_human.get_config()
    config.batch_size = 8
    config.num_steps = 2000
    config.model.image_size = 256
    config.model.skeleton_features = "coco"
    config.model.image_in_roi = True
    config.model.backbone.stacks = 1
    config.model.backbone.features = 64
    config.model.branch = {
        "name": "lean",
        "features": 16,
        "units": 2,
        "depth": 2,
        "head_features": 16,
        "head_convs": 1,
    }
    # Less augmentation and half of the authors' jitter: 2,000 steps are too few to learn all of it.
    config.augment.rotation = 10.0
    config.augment.scale = (0.85, 1.25)
    config.augment.roi_rotation = 15.0
    config.augment.roi_scale = 0.1
    config.augment.roi_translation = 0.05
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 1e-4
    config.checkpoint_every = 200
    config.eval_every = 0
    config.panels_every = 500
    return config
