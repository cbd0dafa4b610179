"""Generated people: a small network and its data from nothing, on two CPU cores.

    python main.py --config=configs/synthetic.py --workdir=RUN

The images are made when they are first needed (`python -m input_pipeline.synthetic` makes them
elsewhere). `make demo` trains it for a few minutes.
"""

import ml_collections

from configs import coco_human_small


def get_config() -> ml_collections.ConfigDict:
    """The configuration: what differs from coco_human_small."""
    config = coco_human_small.get_config()
    # Arguments of input_pipeline.synthetic.Recipe; used while dataset.coco_dir is empty.
    config.dataset.synthetic = ml_collections.ConfigDict()
    config.dataset.synthetic.train = 640
    config.dataset.synthetic.validation = 100
    config.dataset.synthetic.size = 192
    config.dataset.synthetic.overlap = 0.5
    config.dataset.synthetic.crowd = 0.05
    config.dataset.synthetic.seed = 0
    config.dataset.image_size = 128
    # About two persons an image: all of them fit.
    config.batch_size = 4
    config.num_steps = 1000
    config.model.roi_size = 48
    config.model.backbone_features = 32
    config.model.backbone_depth = 3
    # The authors' branch: the figures of `make demo` and `make compare` are with it.
    config.model.branch_depth = 0
    config.model.branch_features = 24
    config.model.branch_units = 5
    config.model.stem_features = 48
    config.checkpoint_every = 400
    config.log_every = 50
    config.panels_every = 400
    return config
