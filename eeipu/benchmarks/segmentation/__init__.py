"""Image segmentation: preprocessing, training of a U-Net, and smoothing of its masks.

Public: `problem` (the problem), `picture_folders` (scenes from the user's own folders).
"""
