"""Coherent X-ray diffraction of nanocrystals with line defects: a differentiable simulator and what learns from it."""

from jaxsci.diffraction.crystal import Body, support, support_on_grid, wulff
from jaxsci.diffraction.dislocation import Line, displacement
from jaxsci.diffraction.generator import CLASSES, Label, Prior, Scene, draw, expected, sample
from jaxsci.diffraction.measured import MeasuredConfig, load_intensity
from jaxsci.diffraction.nonuniform import nonuniform_sum
from jaxsci.diffraction.potential import read_setfl, second_moment
from jaxsci.diffraction.relabel import Witness, witness
from jaxsci.diffraction.relaxation import FireConfig, Relaxed, relax
from jaxsci.diffraction.retrieval import RetrievalConfig, Retrieved, refine, retrieve
from jaxsci.diffraction.scattering import atomistic, direct_sum, far_field, gemm_sum, intensity
from jaxsci.diffraction.winding import windings

__all__ = [
    "Body",
    "CLASSES",
    "FireConfig",
    "Label",
    "Line",
    "MeasuredConfig",
    "Prior",
    "Relaxed",
    "RetrievalConfig",
    "Retrieved",
    "Scene",
    "Witness",
    "atomistic",
    "direct_sum",
    "displacement",
    "draw",
    "expected",
    "far_field",
    "gemm_sum",
    "intensity",
    "load_intensity",
    "nonuniform_sum",
    "read_setfl",
    "refine",
    "relax",
    "retrieve",
    "sample",
    "second_moment",
    "support",
    "support_on_grid",
    "windings",
    "witness",
    "wulff",
]
