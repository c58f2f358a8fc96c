"""Segmentation of scenes: preprocessing, a U-Net, and the smoothing of its masks."""

from eeipu.benchmarks.segmentation.problem import problem

__all__ = ["problem"]
