"""Generated people, whose poses and masks one small network finds: Associative Embedding from nothing, on two CPU cores.

    python main.py --config=configs/synthetic_ae.py --workdir=RUN
    python main.py --workdir=RUN --mode=eval --poses=own

After 3,000 steps (seed 0, 46 minutes on two CPU cores) the AP of the poses is 0.24 (AP50 0.73), and that of the masks from these poses 0.46
beside 0.83 from annotated poses (own scores). docs/experiments.md says what was learned on the way.
"""

import ml_collections

from configs import synthetic


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from that of the masks alone."""
    config = synthetic.get_config()
    config.dataset.synthetic = {
        "train": 3000,
        "validation": 200,
        "size": 128,
        "overlap": 0.0,
        "crowd": 0.0,
        "seed": 0,
        "plain": True,  # those of synthetic.py are too hard for a small network: MoveNet itself has an AP of 0.17 there
    }
    config.batch_size = 16
    config.persons_per_batch = 32
    config.num_steps = 3000
    config.model.backbone = {"name": "hourglass", "stacks": 1, "features": 64, "depth": 3}
    config.model.branch = {
        "name": "lean",
        "features": 24,
        "units": 2,
        "depth": 2,
        "head_features": 16,
        "head_convs": 1,
    }
    config.model.pose_head = {"name": "associative_embedding", "features": 0}
    config.loss.poses = 100.0  # a heatmap is nearly empty, so its mean squared difference is small
    config.loss.tags = 3e-3
    config.checkpoint_every = 500
    return config
