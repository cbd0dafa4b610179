"""Section 3 of the paper as pure JAX functions.

Geometry, pose templates, AffineAlign, sampling, Skeleton Features and pose noise live here. What has parameters, reads
a config or opens a data set does not belong here.
"""
