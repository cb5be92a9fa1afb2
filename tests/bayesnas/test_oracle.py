"""The NAS-Bench-201 tensor: contraction, gradient, the optimum, and the published row of entropies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.bayesnas import estimators
from jaxsci.bayesnas.oracle import expectation, load_tables, mean_field_search
from jaxsci.core.errors import DataError

OBJECTIVE, TRUTH = "cifar10-val 12 epochs", "cifar10 200 epochs"


@pytest.fixture(scope="module")
def tables():
    return load_tables()


@pytest.fixture(scope="module")
def objective(tables):
    return jnp.asarray(tables.accuracy[OBJECTIVE], jnp.float32)


def test_the_table_has_its_published_optima_and_uniform_means(tables):
    for name, best, uniform in (
        ("cifar10", 94.37, 87.06),
        ("cifar100", 73.51, 61.41),
        ("ImageNet16-120", 47.31, 33.59),
    ):
        values = tables.accuracy[f"{name} 200 epochs"]
        assert values.max() == pytest.approx(best, abs=0.01) and values.mean() == pytest.approx(uniform, abs=0.01)
    # The cell that is skip connections only, by the published table.
    assert tables.accuracy[TRUTH][(1,) * 6] == pytest.approx(54.30, abs=0.01)


def test_expectation_is_the_weighted_sum_over_all_architectures(objective):
    p = jax.nn.softmax(jax.random.normal(jax.random.key(0), (6, 5)))
    weights = p[0]
    for row in p[1:]:
        weights = weights[..., None] * row
    # float32 sums of 15,625 terms near 80
    assert expectation(objective, p) == pytest.approx(float(jnp.sum(weights * objective)), abs=1e-3)


# What the specification measured, over three seeds: E[accuracy], entropy left.
@pytest.mark.parametrize("temperature, accuracy, entropy", [(3.0, 92.02, 8.36), (0.3, 94.10, 3.85), (0.1, 94.33, 1.34)])
def test_entropy_is_paid_for_with_accuracy(tables, objective, temperature, accuracy, entropy):
    found = mean_field_search(objective, temperature=temperature, key=jax.random.key(0))
    truth = jnp.asarray(tables.accuracy[TRUTH], jnp.float32)
    assert expectation(truth, found.distribution.probabilities()) == pytest.approx(accuracy, abs=0.02)
    assert found.entropy[-1] == pytest.approx(entropy, abs=0.02)


def test_search_without_entropy_finds_the_best_architecture(tables, objective):
    truth = tables.accuracy[TRUTH]
    for seed in range(3):
        found = mean_field_search(objective, temperature=0.0, key=jax.random.key(seed))
        assert truth[tuple(np.asarray(found.distribution.mode()))] == truth.max()


def test_estimators_bias(objective):
    """Score function and Dirichlet are unbiased within three standard errors; Concrete is not, less so when colder."""
    logits = 0.5 * jax.random.normal(jax.random.key(1), (6, 5))
    exact = estimators.exact_gradient(objective, logits)
    judge = lambda estimator, exact: estimators.measure(estimator, exact, draws=20_000, key=jax.random.key(2))  # noqa: E731
    score = judge(estimators.score_gradient(objective, logits, 81.0), exact)
    assert score.bias < 3 * score.bias_standard_error
    dirichlet = judge(
        estimators.dirichlet_gradient(objective, logits), estimators.exact_dirichlet_gradient(objective, logits)
    )
    assert dirichlet.bias < 3 * dirichlet.bias_standard_error
    warm, cold = (judge(estimators.concrete_gradient(objective, logits, t), exact) for t in (1.0, 0.5))
    assert warm.bias > 10 * warm.bias_standard_error and warm.bias > 2 * cold.bias
    assert warm.spread < cold.spread


def test_a_table_that_lists_an_architecture_twice_is_refused(tmp_path, tables):
    with np.load("jaxsci/bayesnas/data/nasbench201.npz") as archive:
        content = {name: archive[name] for name in archive.files}
    content["arch_ops"][0] = content["arch_ops"][1]
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(DataError, match="all 15625 architectures once"):
        load_tables(str(tmp_path / "bad.npz"))
