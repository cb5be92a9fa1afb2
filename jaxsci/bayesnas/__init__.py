"""Ensembles from the joint posterior of architectures and weights: calibrated probabilities, and where doubt is from."""
