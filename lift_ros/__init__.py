"""Consistent instance labels from posed images: a Gaussian scene, lifted 2D masks, persistent objects."""
