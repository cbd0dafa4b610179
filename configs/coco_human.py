"""The paper's experiment: Hourglass-2 at 512 px, two templates, Skeleton Features, COCOHUMAN.

    python main.py --config=configs/coco_human.py --workdir=RUN --config.dataset.coco_dir=COCO

Choices are the paper's (arXiv 1803.10683v1) where it speaks, the authors' published code where it
does not, and ours where both are silent; the comment behind each says which. Not yet trained at
this size; see coco_human_small.py for figures on little data.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The configuration."""
    config = ml_collections.ConfigDict()
    config.seed = 0

    # Images and persons per step, over all devices. Authors: 4 images, at most 8 persons.
    config.batch_size = 4
    config.persons_per_batch = 8
    # Authors: 25 epochs of 14,150 iterations.
    config.num_steps = 25 * 14150

    # A weights file to start from, of the same network (dtype, backbone_shrink and
    # dataset.image_size may differ; templates and reflection are those of align below); empty for
    # random weights.
    config.init_weights = ml_collections.config_dict.placeholder(str)

    config.dataset = ml_collections.ConfigDict()
    # Holds annotations/person_keypoints_{train,val}2017.json, train2017/ and val2017/.
    config.dataset.coco_dir = ml_collections.config_dict.placeholder(str)
    # Where TFDS keeps prepared data; empty for its default, ~/tensorflow_datasets.
    config.dataset.data_dir = ml_collections.config_dict.placeholder(str)
    # Side of the letterboxed image in pixels (paper: 512), over backbone_shrink a multiple
    # of 4 * 2**backbone_depth (hourglass) or 32 (the others).
    config.dataset.image_size = 512

    # Augmentation of the image, about its centre. The paper names none; the authors flip.
    config.augment = ml_collections.ConfigDict()
    config.augment.flip = True
    config.augment.rotation = 15.0  # degrees, to either side (ours)
    config.augment.scale = (0.78, 1.42)  # (ours)
    config.augment.translation = 0.05  # share of the side (ours)
    config.augment.crop_probability = 0.0  # of a window around one person instead of the image
    config.augment.crop_margin = (1.5, 3.0)  # its side over the longer side of the person's box
    config.augment.color = 0.2  # brightness, contrast, saturation (ours); 0 for none

    # Poses as wrong as estimated ones, up to this level of pose_noise.py (ours); 0 for annotated ones.
    config.augment.pose_noise = 0.0

    config.align = ml_collections.ConfigDict()
    # "pose" (paper), "score" (CVPR 2019 version) or, for comparison, "box": the ROI is the true box, as
    # a perfect detector's.
    config.align.method = "pose"
    # A file from main.py --mode=templates, or "cvpr2019"; empty for our two of the package (paper: K = 2).
    config.align.templates = ml_collections.config_dict.placeholder(str)
    config.align.num_templates = 2  # K of --mode=templates (paper)
    config.align.reflect = True  # H includes the left-right reflection (paper 3.2)
    # Jitter of H in training (authors' code).
    config.align.jitter_rotation = 30.0  # degrees
    config.align.jitter_scale = 0.2
    config.align.jitter_translation = 0.1  # share of the ROI

    # Arguments of models.Pose2Seg.
    config.model = ml_collections.ConfigDict()
    config.model.roi_size = 64  # (paper)
    config.model.limbs = (
        "paper"  # 39 channels (paper); "coco" for 55; "none" without Skeleton Features
    )
    config.model.pixels = False  # align the image itself too (ours, for small networks)
    # (paper); or "resnet50_fpn", see coco_human_r50fpn.py, or "efficientnet_lite0_fpn", see coco_human_lite.py
    config.model.backbone_type = "hourglass"
    # Where images, features and ROIs are read: "centers" (docs/coordinates.md) or "indices", as the
    # CVPR 2019 version.
    config.model.sampling = "centers"
    # How many times smaller the backbone sees the image (ours): 1 or a ratio with a denominator up to 64,
    # which as a flag is a decimal.
    config.model.backbone_shrink = 1.0
    config.model.stacks = 2  # Hourglass-2 (paper)
    config.model.backbone_features = 256  # (paper)
    config.model.backbone_depth = 4  # (Newell et al. 2016)
    config.model.branch_features = 256  # (authors' code)
    config.model.branch_units = 10  # (paper)
    config.model.branch_depth = 0  # 1 or more: our leaner branch, see coco_human_lean.py
    config.model.head_features = 128  # (authors' code)
    config.model.head_convs = 1  # of our leaner branch, at the ROI's full size
    config.model.stem_features = 256  # (authors' code)
    config.model.stem_kernel = 7  # (authors' code)
    config.model.dtype = "float32"  # "bfloat16" computes in half the memory on GPU and TPU

    config.loss = ml_collections.ConfigDict()
    config.loss.dice = 0.0  # weight of a Dice loss beside the cross-entropy (ours)

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2e-4  # (authors' code)
    # Share of it for the backbone, its pyramid included: less where it starts from ImageNet (ours).
    config.optimizer.backbone_rate = 1.0
    config.optimizer.schedule = "step"  # "step" (authors' code) or "cosine"
    config.optimizer.warmup_steps = 1000  # (authors' code) from a third of the rate
    config.optimizer.decay_steps = (15 * 14150, 20 * 14150)  # x 0.1 each (authors' code)
    config.optimizer.weight_decay = 0.0  # (authors' code)

    config.log_every = 50  # steps
    config.checkpoint_every = 1000
    config.eval_every = 14150  # 0: only at the end
    config.panels_every = 1000  # image panels in TensorBoard
    config.keep_latest = 2  # checkpoints
    config.keep_best = 1

    config.eval = ml_collections.ConfigDict()
    config.eval.batch_size = 4  # images, over all devices
    config.eval.persons_per_batch = 16  # slots; more persons than fit take further rounds
    config.eval.flip = (
        False  # predict the mirrored image too, and take the mean: twice the work (ours)
    )
    # Level of pose_noise.py at which annotated poses are perturbed, to see what errors cost.
    config.eval.pose_noise = 0.0
    # A part of a predicted pose with a score below this is missing (--poses FILE).
    config.eval.part_score_threshold = 0.3
    return config
