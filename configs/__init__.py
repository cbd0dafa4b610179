"""Experiments, one a file: what differs from coco_human.py, or from the experiment that it is a variant of."""
