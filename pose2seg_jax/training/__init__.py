"""Training: state, step, losses, augmentation, checkpoints, the record of a run, metrics.

Data comes in through arguments: nothing here opens a data set.
"""
