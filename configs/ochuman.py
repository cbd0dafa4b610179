r"""Evaluation of the CVPR 2019 version on OCHuman, whose persons hide each other.

    python -m pose2seg_jax.people.ochuman --annotations=ochuman.json --images=IMAGES --subset=val --output=OCHUMAN_VAL
    python main.py --config=configs/ochuman.py --mode=eval --weights=r50fpn.safetensors \
      --config.dataset.coco_dir=OCHUMAN_VAL

The authors train on COCO only. Published with annotated poses: AP 0.544 on val (2,500 images), 0.552 on test.
"""

import ml_collections

from configs import coco_human_r50fpn


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from coco_human_r50fpn."""
    config = coco_human_r50fpn.get_config()
    config.eval.persons_per_batch = 8  # of 4 images, with 1.7 annotated persons each
    return config
