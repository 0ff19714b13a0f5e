"""What the masks of all keyframes say of the Gaussians, counted: what lifting methods and objects rest on."""
