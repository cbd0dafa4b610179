"""A network for little data that starts from ImageNet: EfficientNet-Lite0, 512 px for the outlines."""

import ml_collections

from configs import coco_human_compact


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from coco_human_compact."""
    config = coco_human_compact.get_config()
    config.model.backbone_type = "efficientnet_lite0_fpn"
    config.optimizer.backbone_rate = 0.2
    return config
