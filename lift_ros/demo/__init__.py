"""A rendered room with exact ground truth, to try everything without a camera."""
