"""Systems together: a transformer, a learned equation, an ensemble as the model in 4D-Var; racing tunes covariances."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from jaxsci.core.summary import read_summary
from jaxsci.emulators import LinearEmulator


def metrics_of(directory) -> Mapping[str, float]:
    return read_summary(directory / "summary.json").metrics


def test_a_transformer_trained_on_eight_devices_is_that_of_one_and_serves_4d_var(finished):
    directory, outcome = finished("sequence_emulator")
    assert outcome.code == 0, outcome.err
    metrics = metrics_of(directory)
    assert metrics["devices"] == 8
    assert metrics["sharded_minus_unsharded"] < 1e-5  # float32 rounding, two steps
    assert metrics["gradient_relative_error"] < 1e-5  # central differences in float64
    assert metrics["adjoint_relative_error"] < 1e-10
    assert metrics["rmse_analysis_m"] < metrics["rmse_climatology_m_day1"]


def test_windows_hold_the_errors_of_the_simple_forecast():
    from experiments.sequence_emulator_model import Windows

    rng = np.random.default_rng(0)
    days, modes, lags = 20, 2, 4
    series = rng.standard_normal((days, modes))
    base = LinearEmulator(jnp.asarray(rng.standard_normal((3, 2 * modes, modes))), 2, 3)
    scale, unit = np.array([2.0, 0.5]), 3.0
    windows = Windows.of(series, base, lags, scale, unit)
    assert windows.inputs.shape == (days - 2 - lags + 1, lags, modes)
    for start in (0, len(windows.inputs) - 1):
        for place in range(lags):
            today = start + place + 1  # day 0 is only ever yesterday
            np.testing.assert_allclose(windows.inputs[start, place] * scale, series[today], rtol=1e-6)
            missed = series[today + 1] - base.forecast(jnp.asarray(series[[today, today - 1]]))[0]
            np.testing.assert_allclose(windows.targets[start, place] * unit, missed, atol=1e-5)


def test_only_what_validation_supports_of_the_correction_is_kept(x64):
    """On days that follow a law the linear part does not know, all of a right correction, none of a wrong one."""
    import equinox as eqx

    from experiments.sequence_emulator_model import NetworkConfig, TransformerEmulator, supported
    from jaxsci.transformer.layout import Layout
    from jaxsci.transformer.regression import Regressor, gathered

    model = NetworkConfig(lags=2, layers=1, width=8, heads=2, dropout=0.0).model(2)
    params = jax.tree.map(jnp.asarray, gathered(model, Regressor.init(model, Layout(1, 1, 1), jax.random.key(0))))
    params["outward"] = jax.random.normal(jax.random.key(1), params["outward"].shape)
    params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    nothing = LinearEmulator(jnp.zeros((1, 2, 2)), 1, 1)
    right = TransformerEmulator(nothing, params, jnp.ones(2), jnp.asarray(1.0), jnp.asarray(1.0), model, 3)
    days = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    for _ in range(30):
        days.append(np.asarray(right.forecast(jnp.asarray(np.stack(days[:-3:-1]))))[0])
    days = np.stack(days)
    np.testing.assert_allclose(supported(right, days).shrink, 1.0, rtol=1e-9)
    wrong = eqx.tree_at(lambda e: e.params["outward"], right, -params["outward"])
    np.testing.assert_allclose(supported(wrong, days).shrink, 0.0)
    state = jnp.asarray(days[5:3:-1])
    np.testing.assert_allclose(right(state)[0], days[6], rtol=1e-9)
    np.testing.assert_allclose(right(state)[1], days[5])
    np.testing.assert_allclose(right.forecast(state), days[6:9], rtol=1e-9)  # its own forecasts are its next days


def test_a_learned_equation_is_the_model_in_4d_var(call, tmp_path):
    """Below the observations' error at the price of having been learned: the true equation does no worse."""
    base = ["experiment=twin", "model=stabilized_ks", "method=4dvar", "method.lag=2", "method.scale=0.02"]
    errors = {}
    for name, extra in (("learned", []), ("perfect", ["model.perfect=true"])):
        outcome = call(*base, *extra, "cycles=40", "seeds=2", f"hydra.run.dir={tmp_path / name}")
        assert outcome.code == 0, outcome.err
        errors[name] = metrics_of(tmp_path / name)
    assert errors["learned"]["rmse_analysis"] < 0.5  # the observations' own
    assert errors["learned"]["diverged_share"] == 0
    assert errors["perfect"]["rmse_analysis"] < 1.1 * errors["learned"]["rmse_analysis"]


def test_the_step_map_of_the_learned_equation_has_a_right_derivative(x64):
    from experiments.twin_stabilized_ks import StabilizedKsSystem

    system = StabilizedKsSystem()
    step, state = system.model(), system.start().mean
    along = jax.random.normal(jax.random.key(0), state.shape)
    _, tangent = jax.jvp(step, (state,), (along,))
    h = 1e-5
    differences = (step(state + h * along) - step(state - h * along)) / (2 * h)
    np.testing.assert_allclose(tangent, differences, atol=1e-8)  # h^2 f''' and rounding over h
    other = jax.random.normal(jax.random.key(1), state.shape)
    (back,) = jax.vjp(step, state)[1](other)
    np.testing.assert_allclose(tangent @ other, along @ back, rtol=1e-10)


@pytest.mark.slow
def test_coverage_with_and_without_the_spread_of_an_ensemble(call, tiny, tmp_path):
    outcome = call(
        *tiny("assimilation"),
        "emulator.ensemble=bayesnas",
        "emulator.networks.architectures=2",
        "emulator.networks.restarts=2",
        "emulator.networks.steps=12",
        "emulator.networks.space.blocks=1",
        "emulator.networks.space.width=8",
        "emulator.networks.search.steps=2",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert outcome.code == 0, outcome.err
    metrics = metrics_of(tmp_path / "run")
    for name in ("coverage_90", "rmse_analysis_m", "rmse_forecast_m_day1"):
        assert np.isfinite(metrics[name]) and metrics[name] != metrics[f"{name}_without_spread"]


SWEEP = [
    "-m",
    "sweep=covariances",
    "model=lorenz63",
    "method.lag=1",
    "method.scale=1e-7,0.02,0.1",
    "noise_scale=1.0",
    "cycles=60",
    "seeds=2",
    "hydra.sweeper.method=random",
    "hydra.sweeper.budget=9",
    "hydra.sweeper.first_test=2",
    "hydra.sweeper.test_seeds=3",
]


@pytest.mark.slow  # a dozen compilations
def test_racing_recovers_a_background_variance_and_judges_it_on_unseen_seeds(call, tmp_path):
    """With 1e-7 of the climate's variance Lorenz-63 is lost (an error of 10), with the others it is not."""
    folder = tmp_path / "sweep"
    outcome = call(*SWEEP, f"hydra.sweep.dir={folder}")
    assert outcome.code == 0, outcome.err
    found = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert float(found["best_params"]["method.scale"]) > 0.01
    metrics = metrics_of(folder)
    assert metrics["rmse_analysis_tuned"] < np.sqrt(2.0)  # the observations' own error
    assert metrics["gain"] == pytest.approx(metrics["rmse_analysis_default"] - metrics["rmse_analysis_tuned"])
    assert metrics["test_blocks"] == 3 and metrics["gain_low"] <= metrics["gain"] <= metrics["gain_high"]
    assert (folder / "report.html").exists()
    seeds = {
        name: {
            json.loads(line)["seed"]
            for line in (folder / name).read_text().splitlines()
            if '"seed"' in line and '"run"' in line
        }
        for name in ("runs.jsonl", "test_runs.jsonl")
    }
    assert not seeds["runs.jsonl"] & seeds["test_runs.jsonl"]
    jobs = len([f for f in folder.iterdir() if f.name.isdigit()])
    assert call(*SWEEP, f"hydra.sweep.dir={folder}").code == 0  # everything is known
    assert len([f for f in folder.iterdir() if f.name.isdigit()]) == jobs


def test_a_sweep_file_needs_many_runs(call):
    outcome = call("sweep=covariances")
    assert outcome.code == 2 and outcome.err[-1] == "error: command line: a sweep is many runs; add -m"
    outcome = call("-m", "sweep=covariance")
    assert outcome.code == 2 and "'sweep/covariance'" in outcome.err[-1]
