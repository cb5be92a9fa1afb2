"""What the assimilation experiment promises: the test year is only looked at, seeds decide, formats do not."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import yaml

from experiments import assimilation, weather
from jaxsci.assimilation.daily import Analyser
from jaxsci.core.config import build, to_mapping
from jaxsci.core.rundir import Run
from jaxsci.emulators import ReducedField, load_field

TEST_DAYS = 365  # of the packaged three years: a third at most, see `split_by_time`
TIMED = {"seconds_4dvar_per_window", "evaluations_per_second"}


def metrics(directory: Path) -> dict[str, float]:
    found = json.loads((directory / "summary.json").read_text())["metrics"]
    return {name: value for name, value in found.items() if name not in TIMED}


@pytest.fixture
def base(finished) -> dict[str, float]:
    return metrics(finished("assimilation")[0])


def packaged_with(path: Path, values: np.ndarray) -> str:
    field = load_field()
    np.savez(path, lat=field.lat, lon=field.lon, time=field.time, hgt=values)
    return str(path)


class Enough(Exception):
    """Raised inside the experiment once a test has seen what it came for."""


@pytest.fixture
def config(finished):
    """The tiny version's config with some top-level keys replaced."""
    saved = yaml.safe_load((finished("assimilation")[0] / "config.yaml").read_text())
    return lambda **changes: build(assimilation.Config, saved | changes)


# The test year.


class Fitted(NamedTuple):
    analyser: Analyser
    reduced: ReducedField


@pytest.fixture
def fitted(config, tmp_path, monkeypatch, x64):
    """Runs the experiment on a file up to its first analysis; returns all that was fitted and chosen by then."""

    def get(path: str, choose: str) -> Fitted:
        seen = []

        def stop(config, analyser, reduced, seconds):
            seen.append(Fitted(analyser, reduced))
            raise Enough

        here = config(data={"path": path}, emulator=to_mapping(config().emulator) | {"choose": choose})
        monkeypatch.setattr(weather, "assimilate", stop)
        with pytest.raises(Enough), Run(tmp_path / "run", {}, trackers=()) as run:
            assimilation.main(here, run)
        return seen[0]

    return get


@pytest.mark.parametrize("choose", ["validation", "recurrent"])
def test_the_test_year_changes_nothing_that_is_fitted(fitted, tmp_path, choose):
    values = load_field().values
    spoiled = values.copy()
    spoiled[-TEST_DAYS:] = 2 * values[-TEST_DAYS:][::-1] + 1000
    before = fitted(packaged_with(tmp_path / "before.npz", values), choose)
    after = fitted(packaged_with(tmp_path / "after.npz", spoiled), choose)
    test = before.reduced.split.test
    assert (test.start, test.stop) == (len(values) - TEST_DAYS, len(values))
    # The analyser holds the chosen emulator, the POD, the emulator's error covariance and every setting.
    assert jax.tree.structure(before.analyser) == jax.tree.structure(after.analyser)
    for ours, theirs in zip(jax.tree.leaves(before.analyser), jax.tree.leaves(after.analyser), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(before.reduced.climatology.coefficients, after.reduced.climatology.coefficients)
    np.testing.assert_array_equal(before.reduced.anomalies[: test.start], after.reduced.anomalies[: test.start])
    # And the spoiling reached the experiment.
    assert np.abs(before.reduced.anomalies[test] - after.reduced.anomalies[test]).min() > 1000


def test_a_spoiled_training_day_does_change_what_is_fitted(fitted, tmp_path):
    """The test above could not fail if the experiment ignored its file."""
    values = load_field().values
    spoiled = values.copy()
    spoiled[100] += 50
    before = fitted(packaged_with(tmp_path / "before.npz", values), "validation")
    after = fitted(packaged_with(tmp_path / "after.npz", spoiled), "validation")
    assert not np.array_equal(before.analyser.pod.modes, after.analyser.pod.modes)


# Seeds and formats.


def test_seeds_and_multirun(call, tiny, base, tmp_path, monkeypatch):
    networks = []
    score = assimilation.score

    def recording(reduced, linear, emulator, analyses, truth, leads):
        networks.append(np.asarray(analyses.network.stations))
        return score(reduced, linear, emulator, analyses, truth, leads)

    monkeypatch.setattr(assimilation, "score", recording)
    outcome = call("-m", *tiny("assimilation"), "seed=0,1", "hydra.sweep.dir=both")
    assert outcome.code == 0, outcome.err
    first, second = (metrics(tmp_path / "both" / job) for job in "01")
    assert first == base  # bit for bit: same programs, same numbers in
    assert networks[0].shape == networks[1].shape == (2, 12)
    assert not np.array_equal(np.sort(networks[0]), np.sort(networks[1]))
    changed = {name for name in first if first[name] != second[name]}
    assert {"rmse_analysis_m", "rmse_oi_m", "rmse_forecast_m_day1"} <= changed
    # What starts from the true state knows no network.
    assert not {name for name in changed if name.startswith(("rmse_climatology", "rmse_persistence", "rmse_linear"))}


def test_netcdf_of_the_same_field_gives_the_same_metrics(call, tiny, base, tmp_path):
    xarray = pytest.importorskip("xarray")
    field = load_field()
    coordinates = {"time": field.time.astype("datetime64[ns]"), "latitude": field.lat, "longitude": field.lon}
    array = xarray.DataArray(field.values, coordinates, ("time", "latitude", "longitude"))
    array.transpose("longitude", "time", "latitude").to_dataset(name="z").to_netcdf(tmp_path / "z500.nc")
    outcome = call(*tiny("assimilation"), "data=field", "data.path=z500.nc", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert metrics(tmp_path / "run") == base


# Several variables in one state, the published protocol, and bad input.


def test_a_companion_variable_joins_the_state(call, tiny, base, tmp_path):
    field = load_field()
    warmth = tmp_path / "warmth.npz"
    np.savez(warmth, lat=field.lat, lon=field.lon, time=field.time, t=270 + 0.1 * (field.values - 5500))
    line = f"data.companions=[{{path: {warmth}, noise_std: 0.1}}]"
    outcome = call(*tiny("assimilation"), line, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    found = metrics(tmp_path / "run")
    # The same variable again, as accurate, from the same stations: two readings for one.
    assert found["rmse_oi_m"] < base["rmse_oi_m"]
    assert found["rmse_persistence_m_day1"] == base["rmse_persistence_m_day1"]  # the first variable is verified


def test_the_published_protocol_is_a_fit(call, tiny, tmp_path):
    small = ["width=4", "epochs=3", "batches=4"]
    outcome = call(
        *tiny("assimilation"),
        "protocol=aieada",
        "aieada.every=150",
        "aieada.inputs=6",
        "aieada.leads=4",
        "aieada.modes=3",
        *(f"aieada.network.{line}" for line in small),
        "hydra.run.dir=run",
    )
    assert outcome.code == 0, outcome.err
    found = metrics(tmp_path / "run")
    assert found["mae_fit_m"] < found["mae_emulator_m"]  # it saw the days it is verified on
    assert found["mae_minimum_m"] < found["mae_emulator_m"]
    assert found["starts"] == 3  # of 365 days, 10 a start, every 150th
    assert "This is a fit, not a forecast" in (tmp_path / "run" / "summary.json").read_text()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stations=1000", "stations: expected at most the 221 points of the grid, got 1000"),
        ("data.companions=[{path: nowhere.npz}]", "no such file"),
        ("data.companions=[{path: a.npz, noise: 1}]", "unknown key"),
        ("protocol=forcast", "did you mean 'forecast'"),
        ("aieada.observed=2", "aieada.observed: expected a value between"),
    ],
)
def test_bad_input_is_one_line(call, tiny, tmp_path, override, says):
    outcome = call(*tiny("assimilation"), override, "hydra.run.dir=run")
    assert outcome.code == 2
    assert says in outcome.err[-1] and not (tmp_path / "run" / "summary.json").exists()


# Another field, against numbers computed once by separate code.

ERA_INTERIM = "atmosphere/erai_z500_weur_1p5deg_daily_2000_2008.npz"


def test_era_interim_against_independent_numbers(config, tmp_path, monkeypatch, x64):
    folder = os.environ.get("JAXSCI_DATA")
    if not folder or not (Path(folder) / ERA_INTERIM).is_file():
        pytest.skip(f"set JAXSCI_DATA to the folder that holds {ERA_INTERIM}")
    found = {}
    score = assimilation.score

    def stop(*arguments):
        found.update(score(*arguments).rmse)
        raise Enough

    monkeypatch.setattr(assimilation, "score", stop)
    era = {"path": str(Path(folder) / ERA_INTERIM)}
    emulator = to_mapping(config().emulator) | {"choose": "linear"}
    here = config(data=era, modes=20, harmonics=[3], leads=5, networks=1, emulator=emulator)
    with pytest.raises(Enough), Run(tmp_path / "run", {}, trackers=()) as run:
        assimilation.main(here, run)
    # RMSE on 2008 (m) at leads of 1 to 3 days. The tolerances leave room for how many first and last days of the
    # year a verification counts and, for the linear model, for the grid of ridges it chooses from.
    expected = {
        "persistence": ((69.8, 101.8, 120.4), 0.2),
        "damped_persistence": ((66.2, 90.3, 100.8), 0.3),
        "linear": ((54.4, 82.4, 96.0), 0.6),
    }
    for name, (values, tolerance) in expected.items():
        np.testing.assert_allclose(found[name][:3], values, atol=tolerance, rtol=0, err_msg=name)
