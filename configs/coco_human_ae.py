"""The paper's whole experiment, its "predicted poses" included: one Hourglass finds poses (Associative Embedding) and masks.

    python main.py --config=configs/coco_human_ae.py --workdir=RUN --config.dataset.coco_dir=COCO
    python main.py --workdir=RUN --mode=eval --poses=own --config.dataset.coco_dir=COCO

Paper: poses by Associative Embedding (its reference [6], Newell, Huang and Deng 2017), 4 hourglasses with a pose head on each.
Joint training with the masks is ours: the paper trains two networks. Not yet trained at this size; coco_human_movenet_ae.py
and synthetic_ae.py are smaller, on the backbone of MoveNet.
"""

import ml_collections

from configs import coco_human


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from that of the masks alone."""
    config = coco_human.get_config()
    config.model.backbone.stacks = 4  # (Associative Embedding)
    config.model.pose_head = {"name": "associative_embedding", "features": 0}
    config.loss.poses = 100.0  # as in synthetic_ae.py (ours)
    config.optimizer.clip_norm = 10.0  # likewise
    return config
