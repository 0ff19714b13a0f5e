"""Lifting methods side by side: metrics of instance labels and of images, runs, and what shows their figures."""
