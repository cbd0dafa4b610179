"""TFDS dataset `coco_human`: see coco_human_dataset_builder.py."""
