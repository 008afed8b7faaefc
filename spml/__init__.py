"""SPML: universal weakly supervised segmentation by pixel-to-segment contrastive learning (ICLR 2021)."""

__version__ = '0.1.0'
