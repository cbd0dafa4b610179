"""Overlays and panels: arrays and RLE masks in, pictures as arrays out.

What runs a network or touches a file does not belong here.
"""
