"""2D instance masks of single frames: SAM, graph segmentation, or masks made elsewhere."""
