"""Differentiable science in JAX: pure functions on pytrees. Importing it starts no XLA backend."""

from jaxsci.core.ensemble import ensemble as ensemble
from jaxsci.core.rollout import rollout as rollout
