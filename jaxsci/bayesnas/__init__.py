"""Ensembles from the joint posterior of architectures and weights: calibrated, and clear about their doubt."""
