"""Experiments, one a file; every other one imports coco_human and changes what differs."""
