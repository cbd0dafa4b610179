"""Generated people: a small network and its data from nothing, on two CPU cores.

    python main.py --config=configs/synthetic.py --workdir=RUN

The images are made when they are first needed (`python -m input_pipeline.synthetic` makes them
elsewhere). `make demo` trains it for a few minutes.
"""

import ml_collections

from configs import coco_human


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from the paper's."""
    config = coco_human.get_config()
    # Arguments of input_pipeline.synthetic.Recipe; used while dataset.coco_dir is empty.
    config.dataset.synthetic = {
        "train": 640,
        "validation": 100,
        "size": 192,
        "overlap": 0.5,
        "crowd": 0.05,
        "seed": 0,
    }
    config.batch_size = 4  # about two persons an image: all of them fit
    config.num_steps = 1000
    config.model.image_size = 128
    config.model.roi_size = 48
    config.model.skeleton_features = "coco"
    config.model.image_in_roi = True
    config.model.backbone = {"name": "hourglass", "stacks": 1, "features": 32, "depth": 3}
    config.model.branch = {
        "name": "paper",
        "features": 24,
        "units": 5,
        "head_features": 16,
        "stem_features": 48,
        "stem_kernel": 3,
    }
    # As coco_human_small.py.
    config.augment.rotation = 10.0
    config.augment.scale = (0.85, 1.25)
    config.augment.roi_rotation = 15.0
    config.augment.roi_scale = 0.1
    config.augment.roi_translation = 0.05
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 1e-4
    config.checkpoint_every = 400
    config.eval_every = 0
    config.panels_every = 400
    return config
