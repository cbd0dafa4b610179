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
    config.seed = 0  # of everything random: parameters, order, augmentation, jitter, noise

    # Images and persons per step, over all devices. Authors: 4 images, at most 8 persons.
    config.batch_size = 4
    config.persons_per_batch = 8
    # Authors: 25 epochs of 14,150 iterations.
    config.num_steps = 25 * 14150

    # A weights file to start from; the sizes of the images and the alignment may differ from config.model.
    # Empty for random weights.
    config.init_weights = ml_collections.config_dict.placeholder(str)
    # Of the computation: "float32", or "bfloat16" in half the memory on GPU and TPU. Parameters are float32.
    config.dtype = "float32"

    config.dataset = ml_collections.ConfigDict()
    # Holds annotations/person_keypoints_{train,val}2017.json, train2017/ and val2017/.
    config.dataset.coco_dir = ml_collections.config_dict.placeholder(str)
    # A JSON file that lists the ids of the validation images that count, as coco_human_lite_images.json; empty for all.
    config.dataset.validation_images = ml_collections.config_dict.placeholder(str)
    # Where TFDS keeps prepared data; empty for its default, ~/tensorflow_datasets.
    config.dataset.data_dir = ml_collections.config_dict.placeholder(str)
    # A COCO file that names all people of its training images, perhaps without masks: the pose heads learn from it. Empty
    # where person_keypoints_train2017.json names all people, as COCO's does.
    config.dataset.train_poses = ml_collections.config_dict.placeholder(str)

    # Augmentation of the image, about its centre. The paper names none; the authors flip.
    config.augment = ml_collections.ConfigDict()
    config.augment.flip = True
    config.augment.rotation = 15.0  # degrees, to either side (ours)
    config.augment.scale = (0.78, 1.42)  # (ours)
    config.augment.translation = 0.05  # share of the side (ours)
    config.augment.crop_probability = 0.0  # of a square around one person instead of the image
    config.augment.crop_margin = (1.5, 3.0)  # its side over the longer side of the person's box
    config.augment.color = 0.2  # brightness, contrast, saturation (ours); 0 for none

    # Poses as wrong as estimated ones, up to this level of pose_noise.py (ours); 0 for annotated ones.
    config.augment.pose_noise = 0.0

    # Jitter of each person's alignment in training (authors' code).
    config.augment.roi_rotation = 30.0  # degrees, to either side
    config.augment.roi_scale = 0.2  # relative change, to either side
    config.augment.roi_translation = 0.1  # share of the ROI, to either side

    # The network. All of it is recorded with a run and in a weights file (models/network_spec.py).
    config.model = ml_collections.ConfigDict()
    # Side of the letterboxed image in pixels (paper: 512).
    config.model.image_size = 512
    # Side at which the backbone sees it, a multiple of 4 * 2**depth (hourglass) or 32 (the others); empty for
    # image_size (ours).
    config.model.backbone_image_size = ml_collections.config_dict.placeholder(int)
    config.model.roi_size = 64  # side of the ROI and of the mask in it, in cells (paper)
    # Features are read, and the branch computes, at every so many of its cells (ours).
    config.model.roi_stride = 1
    # Limbs that Skeleton Features draw: "paper" (11, 39 channels), "coco" (19, 55 channels) or "off".
    config.model.skeleton_features = "paper"
    config.model.image_in_roi = False  # align the image itself too (ours, for small networks)
    # Where pixels are read: "pixel_centers" (docs/coordinates.md) or, as the CVPR 2019 version, "pixel_indices".
    config.model.sampling = "pixel_centers"
    config.model.backbone = ml_collections.ConfigDict()
    # "hourglass" (paper), "resnet50_fpn" (coco_human_r50fpn.py) or "efficientnet_lite0_fpn" (coco_human_lite.py);
    # the fields beside it are the options of that backbone.
    config.model.backbone.name = "hourglass"
    config.model.backbone.stacks = 2  # Hourglass-2 (paper)
    config.model.backbone.features = 256  # (paper)
    config.model.backbone.depth = 4  # (Newell et al. 2016)
    config.model.branch = ml_collections.ConfigDict()
    config.model.branch.name = "paper"  # or "lean", see coco_human_lean.py; "off" for poses alone
    config.model.branch.features = 256  # (authors' code)
    config.model.branch.units = 10  # (paper)
    config.model.branch.head_features = 128  # (authors' code)
    config.model.branch.stem_features = 256  # (authors' code)
    config.model.branch.stem_kernel = 7  # (authors' code)
    config.model.pose_head = ml_collections.ConfigDict()
    # "associative_embedding" for a network that finds the poses too (coco_human_ae.py), or "off".
    config.model.pose_head.name = "off"
    config.model.alignment = ml_collections.ConfigDict()
    # "affine_align" (paper), "cvpr2019" (that version's rule) or, for comparison, "box": the ROI is the true box,
    # as a perfect detector's.
    config.model.alignment.policy = "affine_align"
    # A file from main.py --mode=templates, or "cvpr2019"; empty for our two of the package (paper: K = 2).
    config.model.alignment.templates = ml_collections.config_dict.placeholder(str)
    config.model.alignment.reflect = True  # H includes the left-right reflection (paper 3.2)

    config.loss = ml_collections.ConfigDict()
    config.loss.dice = 0.0  # weight of a Dice loss beside the cross-entropy (ours)
    config.loss.edges = 0.0  # weight of the cross-entropy near true edges, which is added (ours)
    config.loss.poses = 1.0  # weight of the pose heads' loss beside that of the masks (ours)
    config.loss.tags = (
        1e-3  # in it, weight of pull and push beside the heatmaps (Associative Embedding)
    )
    config.loss.peak_sigma = 2.0  # of the peaks of the heatmaps, in cells (Associative Embedding)

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2e-4  # (authors' code)
    # Share of it for the backbone, its pyramid included: less where it starts from ImageNet (ours).
    config.optimizer.backbone_rate = 1.0
    config.optimizer.schedule = "step"  # "step" (authors' code) or "cosine"
    config.optimizer.warmup_steps = 1000  # (authors' code) from a third of the rate
    config.optimizer.decay_steps = (15 * 14150, 20 * 14150)  # x 0.1 each (authors' code)
    config.optimizer.weight_decay = 0.0  # (authors' code)
    config.optimizer.clip_norm = 0.0  # longer gradients are scaled to this norm (ours); 0 for never
    # A step whose loss or gradient is no number changes nothing; more than so many in a row end the training (ours).
    config.optimizer.max_skipped = 10

    # Steps between two of each; 0 for only at the end.
    config.log_every = 50
    config.checkpoint_every = 1000
    config.eval_every = 14150
    config.panels_every = 1000  # image panels in TensorBoard
    config.keep_latest = 2  # checkpoints
    config.keep_best = 1

    config.eval = ml_collections.ConfigDict()
    config.eval.batch_size = 4  # images, over all devices
    config.eval.persons_per_batch = 16  # slots; more persons than fit take further rounds
    # Level of pose_noise.py at which annotated poses are perturbed, to see what errors cost.
    config.eval.pose_noise = 0.0

    # For --mode=predict and --mode=eval alike.
    config.prediction = ml_collections.ConfigDict()
    # Predict the mirrored image too, and take the mean: twice the work (ours).
    config.prediction.flip = False
    # Give each pixel to one person at most, the one whose probability is highest there (ours; the paper does not).
    config.prediction.exclusive = True
    # Let MoveNet look at three sizes of the image: better poses, for two and a half times the time (ours).
    config.prediction.accurate_poses = False
    # A part of a predicted pose with a lower score is missing. Empty for 0.3, or 0.1 of MoveNet's poses.
    config.prediction.part_score_threshold = ml_collections.config_dict.placeholder(float)
    # A predicted pose with a lower score is left out. Empty for 0; of MoveNet's poses 0.35, or 0.45 if accurate.
    config.prediction.person_score_threshold = ml_collections.config_dict.placeholder(float)
    # Of a person whom a pose file holds twice (COCO's OKS above 0.8), only the pose with the higher score counts.
    config.prediction.drop_duplicates = True
    return config
