"""An image and poses to masks: the predictor, the same for many images, pose estimators, results.

This is what a user imports to predict, so it must not need TensorFlow, Orbax, Optax or TFDS.
"""
