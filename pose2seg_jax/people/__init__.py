"""What is known of the people in an image, as plain NumPy data.

Part names, `Person` records, COCO and OCHuman files, pose files, image files and masks as RLE live here. Whatever
comes from a file is checked here, once. Networks and TensorFlow do not belong here.
"""
