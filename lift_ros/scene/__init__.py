"""The Gaussian scene: what it is, where Gaussians come from, and how they are trained."""
