"""The COCO protocol of the paper's tables, and the report about a run.

Evaluation is prediction for many annotated images. Nothing here trains.
"""
