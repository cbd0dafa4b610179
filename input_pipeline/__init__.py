"""The TensorFlow wing: the TFDS builder, the tf.data stream of training examples, generated people as a data set.

It may import `people`, `alignment` and the ground floor of pose2seg_jax. Only `pose2seg_jax.program` imports it.
"""
