"""Networks as files: weights files (safetensors), PyTorch checkpoints, and the conversion between them.

The checkpoints of a training run do not belong here; they are in `training`.
"""
