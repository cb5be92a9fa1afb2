"""Counts of invisible systems and rules of forbidden reflections."""

import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.diffraction.lattice import check_reflection, edge_residual, edges, is_allowed, screws, visibility


@pytest.mark.parametrize(
    "g, lost_screws, lost_edges, residuals",
    [
        ((1, 1, 1), 3, 6, {0.051, 0.153}),
        ((2, 0, 0), 2, 4, {0.102}),
        ((2, 2, 0), 1, 2, {0.204}),
        ((3, 1, 1), 1, 2, {0.051, 0.255}),
    ],
)
def test_invisible_systems_of_fcc(g, lost_screws, lost_edges, residuals):
    """The table of g.b = 0 for a/2<110> on {111}."""
    assert len(screws("fcc").burgers) == 6 and len(edges("fcc").burgers) == 12
    assert np.sum(visibility(g, screws("fcc")) == 0) == lost_screws
    lost = visibility(g, edges("fcc")) == 0
    assert np.sum(lost) == lost_edges
    assert set(edge_residual(g, edges("fcc"))[lost].round(3)) <= residuals


@pytest.mark.parametrize("centring", ["fcc", "bcc"])
def test_vectors_of_the_systems(centring):
    edge, screw = edges(centring), screws(centring)
    assert len(edge.burgers) == 12
    for systems in (edge, screw):
        np.testing.assert_allclose(np.sum(systems.normal * systems.direction, 1), 0, atol=1e-12)
        np.testing.assert_allclose(np.sum(systems.normal * systems.burgers, 1), 0, atol=1e-12)
        np.testing.assert_allclose(np.linalg.norm(systems.direction, axis=1), 1)
    np.testing.assert_allclose(np.sum(edge.burgers * edge.direction, 1), 0, atol=1e-12)
    np.testing.assert_allclose(np.cross(screw.burgers, screw.direction), 0, atol=1e-12)


def test_forbidden_reflections():
    assert is_allowed((1, 1, 1), "fcc") and is_allowed((-3, 1, 1), "fcc") and not is_allowed((1, 1, 0), "fcc")
    assert is_allowed((1, 1, 0), "bcc") and not is_allowed((1, 1, 1), "bcc") and not is_allowed((0, 0, 0), "fcc")
    with pytest.raises(ConfigError, match=r"reflection: \(1 1 0\) is forbidden for fcc; expected all indices even"):
        check_reflection((1, 1, 0), "fcc")
