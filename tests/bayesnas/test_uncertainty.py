"""Splits of uncertainty: exact sums, variance components, detection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.bayesnas.anova import nested_components, one_way_component
from jaxsci.bayesnas.ensemble import Nested, mixture, nested, weighted_mixture
from jaxsci.bayesnas.ood import area_under_risk_coverage, deep_ensemble_equivalent, detection, disagreement
from jaxsci.bayesnas.uncertainty import entropy, entropy_split, quadratic_split, variance_split
from jaxsci.core.errors import ConfigError

P = jax.nn.softmax(3 * jax.random.normal(jax.random.key(0), (4, 2, 3, 50, 5)))
EQUAL = Nested(P, jnp.full(4, 0.25))


def test_entropies_add_up_for_any_weights():
    for weights in (jnp.full(4, 0.25), jnp.array([0.7, 0.1, 0.2, 0.0])):
        split = entropy_split(Nested(P, weights))
        total = split.architecture + split.weights + split.aleatoric
        np.testing.assert_allclose(total, split.total, atol=1e-6)  # float32, an identity
        assert all(part.min() > -1e-6 for part in split)
        np.testing.assert_allclose(split.total, entropy(mixture(Nested(P, weights))), atol=1e-6)


def test_equal_architectures_leave_no_doubt_between_them():
    same = Nested(jnp.broadcast_to(P[:1], P.shape), jnp.full(4, 0.25))
    np.testing.assert_allclose(entropy_split(same).architecture, 0, atol=1e-6)
    assert quadratic_split(same).corrected_architecture.mean() < 0  # plug-in 0, less what the weights would add


def test_quadratic_split_adds_up():
    split = quadratic_split(EQUAL)
    np.testing.assert_allclose(split.architecture + split.weights + split.aleatoric, split.total, atol=1e-6)


def test_components_of_synthetic_nested_data():
    """sigma_a^2 = sigma_r^2 = 1, sigma_s^2 = 0.2, A = 6, R = 4, S = 5: nested is unbiased, one-way is 1.22."""
    keys, n = jax.random.split(jax.random.key(0), 3), 20_000
    t = (
        jax.random.normal(keys[0], (6, 1, 1, n))
        + jax.random.normal(keys[1], (6, 4, 1, n))
        + jnp.sqrt(0.2) * jax.random.normal(keys[2], (6, 4, 5, n))
    )
    found = nested_components(t)
    for component, truth in ((found.architecture, 1.0), (found.restart, 1.0), (found.sample, 0.2)):
        error = float(component.std()) / np.sqrt(n)
        assert float(component.mean()) == pytest.approx(truth, abs=4 * error)
    assert one_way_component(t).mean() == pytest.approx(1.22, abs=0.03)
    assert found.plug_in_architecture.mean() < 1.3 and found.architecture.min() < 0


def test_one_restart_is_refused():
    with pytest.raises(ConfigError, match="confounds architecture with initialisation"):
        nested_components(P[:, :1])


def test_variance_is_split_by_the_law_of_total_variance():
    mean = jax.random.normal(jax.random.key(1), (3, 2, 2, 7, 1))
    variance = jnp.exp(jax.random.normal(jax.random.key(2), mean.shape))
    weights = jnp.array([0.5, 0.3, 0.2])
    split = variance_split(Nested(mean, weights), Nested(variance, weights))
    flat = jnp.repeat(weights / 4, 4)[:, None]
    m, v = (a.reshape(12, 7) for a in (mean, variance))
    second = jnp.sum(flat * (v + m**2), 0)
    np.testing.assert_allclose(split.total, second - jnp.sum(flat * m, 0) ** 2, rtol=1e-4)


def test_probabilities_are_averaged_with_their_weights():
    members = P[:, :, 0].reshape(8, 50, 5)
    grouped = nested(members[:, None], 4)
    np.testing.assert_allclose(mixture(grouped), members.mean(0), atol=1e-6)
    np.testing.assert_allclose(weighted_mixture(members, jnp.full(8, 1 / 8)), members.mean(0), atol=1e-6)


def test_detection_of_known_cases():
    assert detection(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == (1.0, 1.0, 0.0)
    mixed = detection(np.array([0.0, 2.0]), np.array([1.0, 3.0]))
    assert mixed.auroc == pytest.approx(0.75) and mixed.aupr == pytest.approx((1 + 2 / 3) / 2)
    assert detection(np.ones(4), np.ones(3)).auroc == pytest.approx(0.5)


def test_risk_coverage_and_disagreement():
    p = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    assert area_under_risk_coverage(p, jnp.array([0, 0, 1])) == pytest.approx((0 + 0 + 1 / 3) / 3)
    assert disagreement(jnp.stack([p, p[:, ::-1]])) == pytest.approx(1.0)
    assert deep_ensemble_equivalent(0.95, np.array([1.0, 0.9, 0.85])) == pytest.approx(1.5)
    assert deep_ensemble_equivalent(0.1, np.array([1.0, 0.9, 0.9])) == pytest.approx(2.0)
