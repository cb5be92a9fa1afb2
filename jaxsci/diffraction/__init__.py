"""Coherent X-ray diffraction of nanocrystals with line defects: a differentiable simulator and what learns from it."""

from jaxsci.diffraction.crystal import Body, support, support_on_grid, wulff
from jaxsci.diffraction.dislocation import Line, displacement
from jaxsci.diffraction.generator import CLASSES, Label, Prior, Scene, draw, expected, sample
from jaxsci.diffraction.measured import MeasuredConfig, load_intensity
from jaxsci.diffraction.retrieval import RetrievalConfig, Retrieved, refine, retrieve
from jaxsci.diffraction.scattering import atomistic, direct_sum, far_field, gemm_sum, intensity
from jaxsci.diffraction.winding import windings

__all__ = [
    "Body",
    "CLASSES",
    "Label",
    "Line",
    "MeasuredConfig",
    "Prior",
    "RetrievalConfig",
    "Retrieved",
    "Scene",
    "atomistic",
    "direct_sum",
    "displacement",
    "draw",
    "expected",
    "far_field",
    "gemm_sum",
    "intensity",
    "load_intensity",
    "refine",
    "retrieve",
    "sample",
    "support",
    "support_on_grid",
    "windings",
    "wulff",
]
