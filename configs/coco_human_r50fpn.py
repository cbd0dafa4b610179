r"""The CVPR 2019 version of the method, for the authors' trained weights: ResNet50-FPN at 512 px.

    python main.py --config=configs/coco_human_r50fpn.py --mode=convert_weights \
      --from=pose2seg_release.pkl --output=r50fpn.safetensors
    python main.py --mode=eval --weights=r50fpn.safetensors --config.dataset.coco_dir=COCO

or to train it, from ImageNet weights in torchvision's format as the authors did:

    python main.py --config=configs/coco_human_r50fpn.py --mode=convert_weights \
      --from=resnet50.pth --output=imagenet.safetensors
    python main.py --config=configs/coco_human_r50fpn.py --workdir=RUN \
      --config.init_weights=imagenet.safetensors --config.dataset.coco_dir=COCO

Not trained here. docs/reproduce.md has the published figures.
"""

import ml_collections

from configs import coco_human


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from the paper's."""
    config = coco_human.get_config()
    config.model.alignment.policy = "cvpr2019"
    config.model.alignment.templates = "cvpr2019"
    config.model.alignment.reflect = False
    config.model.backbone = {"name": "resnet50_fpn", "features": 256}
    config.model.sampling = "pixel_indices"
    config.model.skeleton_features = "coco"  # 55 channels
    # The authors flip nothing else than left and right.
    config.augment.rotation = 0.0
    config.augment.scale = (1.0, 1.0)
    config.augment.translation = 0.0
    config.augment.color = 0.0
    config.prediction.exclusive = False  # (authors' code)
    return config
