"""Generated people, written as COCO.

`body` poses them, `render` draws them, `scene` arranges and annotates them, `dataset` writes a
COCO-layout directory:

    python -m input_pipeline.synthetic --output=DIR --train=1000 --validation=200
"""

from input_pipeline.synthetic.dataset import Recipe, coco_dir, write

__all__ = ["Recipe", "coco_dir", "write"]
