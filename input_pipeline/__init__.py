"""Everything that reads data: COCO records, the TFDS builder and the tf.data streams."""
