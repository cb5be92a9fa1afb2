"""Buying stations: the prices, what the records teach, that the loop chooses as `place` does, and that it resumes."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import sensor_campaign as campaigns
from experiments import weather
from experiments.sensor_stations import Market, StationOracle, market, sensitivities
from jaxsci.active.acquisition import ExpectedGain
from jaxsci.assimilation.daily import Analyser
from jaxsci.assimilation.placement import place
from jaxsci.core.config import build, to_mapping
from jaxsci.core.errors import ConfigError
from jaxsci.emulators import ReducedField

KEY = jax.random.key(0)
REGIONS = {"west": {"lat": [30.0, 60.0], "lon": [-10.0, 0.0], "cost": 3.0}}
SMALL = {
    "precision": "float64",
    "emulator": {"choose": "linear"},
    "modes": 20,
    "harmonics": [1],
    "budget": 12.0,
    "regions": REGIONS,
    "seeds": 2,
    "reference_stations": 4,
    "data": {"kind": "field", "validation_days": 120, "test_days": 120},
}


class World(NamedTuple):
    config: campaigns.Config
    reduced: ReducedField
    analyser: Analyser
    sold: Market


@pytest.fixture(scope="module")
def built() -> World:
    with jax.enable_x64(True):
        config = build(campaigns.Config, SMALL)
        reduced = weather.load(config, config.most)
        emulators = weather.train(config, reduced, SimpleNamespace(log=lambda *_: None), {})  # type: ignore[arg-type]
        analyser = weather.analyser(config, config.most, reduced, emulators)
        return World(config, reduced, analyser, campaigns.draw_market(config, reduced, 0))


@pytest.fixture
def world(built, x64) -> World:
    """A small campaign's configuration, field, analyser and market of seed 0, to be used in float64."""
    return built


def records(world, sold, stations):
    truth = np.asarray(world.reduced.anomalies[world.reduced.split.validation.start :])
    oracle = StationOracle(sold, truth, key=KEY)
    return oracle, [oracle.submit(oracle.request(s), key=KEY).data for s in stations]


def test_points_have_the_price_of_the_first_box_that_holds_them(world):
    sold = world.sold
    lon = np.tile(world.reduced.field.lon, len(world.reduced.field.lat))
    np.testing.assert_array_equal(sold.cost, np.where(lon <= 0, 3.0, 1.0))
    boxes = {**world.config.regions, "all": replace(world.config.regions["west"], lon=(-10.0, 30.0), cost=7.0)}
    np.testing.assert_array_equal(market(boxes, 1.0, world.reduced, np.ones(3)).cost, np.where(lon <= 0, 3.0, 7.0))


def test_a_recalled_record_is_the_one_sold_and_is_not_for_sale_again(world):
    oracle, (first, _) = records(world, world.sold, [5, 90])
    again, _ = records(world, world.sold, [])
    np.testing.assert_array_equal(again.recall(again.request(5), {}).values, first.values)
    assert {request.station for request in oracle.requests()} == set(range(221)) - {5, 90}


def test_the_choice_without_learning_is_that_of_place(world):
    """With no stations at the start and no prices, the loop's greedy rule is the library's placement."""
    learner = replace(campaigns.learner_for(world.config, world.reduced, world.analyser, world.sold), beliefs="assumed")
    noise = np.sqrt(world.config.noise_std**2 + np.sum(np.square(world.analyser.pod.truncated), axis=1))
    sensitivity, target = sensitivities(world.analyser, world.config.window)
    wanted = place(sensitivity / jnp.asarray(noise)[:, None, None], 4, target=target).stations
    model, chosen = learner.initial(key=KEY), []
    for count in range(4):
        oracle, _ = records(world, world.sold, chosen)
        gains = np.array([p.gain for p in learner.prospects(model, (), oracle.requests())], float)
        chosen.append(oracle.requests()[int(np.argmax(gains))].station)
        model = model._replace(
            stations=model.stations.at[count].set(chosen[-1]), present=model.present.at[count].set(True)
        )
    assert chosen == np.asarray(wanted).tolist()


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_the_instruments_errors_are_learned_from_the_records(world, factor):
    told = world.config.noise_std
    sold = world.sold._replace(noise=np.array([factor * told, told]))
    learner = campaigns.learner_for(world.config, world.reduced, world.analyser, sold)
    west = np.flatnonzero(sold.region == 0)[::7]
    _, data = records(world, sold, [*west[:6], 100, 150])
    model = learner.fit(learner.initial(key=KEY), data, key=KEY)
    # A hundred days of six stations would tell a deviation to 4 %; what was told draws, the emulator's errors add.
    assert abs(np.log(float(model.noise[0]) / (factor * told))) < 0.5 * np.log(factor)
    _, few = records(world, sold, [100])
    assert learner.fit(learner.initial(key=KEY), few, key=KEY).noise[0] == pytest.approx(told)  # nothing seen of it


def test_padding_changes_nothing(world):
    learner = campaigns.learner_for(world.config, world.reduced, world.analyser, world.sold)
    _, data = records(world, world.sold, [3, 77, 140])
    wide, tight = (
        replace(learner, most=most).fit(learner.initial(key=KEY), data, key=KEY) for most in (learner.most, 3)
    )
    np.testing.assert_allclose(wide.error, tight.error, rtol=1e-8)
    np.testing.assert_allclose(wide.noise, tight.noise, rtol=1e-8)


def test_more_stations_make_better_analyses(world):
    learner = campaigns.learner_for(world.config, world.reduced, world.analyser, world.sold)
    _, data = records(world, world.sold, np.random.default_rng(0).permutation(221)[:8])
    few, many = (float(learner.fit(learner.initial(key=KEY), data[:n], key=KEY).error) for n in (2, 8))
    assert many < few - 5  # metres


def test_money_is_counted_to_the_first_fit_that_reaches_the_target():
    def course(error):
        return campaigns.Course(np.arange(1.0, 5.0), np.array(error), (1, 2), np.ones(2))

    courses = {name: [course([9, 7, 6, 3])] for name in campaigns.ARMS}
    courses["active"], courses["greedy"] = [course([9, 5, 6, 4])], [course([9, 9, 9, 9])]
    metrics = campaigns.compare(courses, target=6.5)
    assert metrics["cost_to_target_random"] == 3 and metrics["cost_saved_fraction"] == pytest.approx(1 / 3)
    assert metrics["cost_to_target_greedy"] == 4 and metrics["reached_share_greedy"] == 0


def test_active_is_not_worse_than_random_for_the_same_money(finished):
    directory, outcome = finished("sensor_campaign")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((directory / "summary.json").read_text())["metrics"]
    assert metrics["rmse_m_active"] <= metrics["rmse_m_random"]
    ledger = [
        json.loads(line) for line in (directory / "checkpoints" / "ledger_active_0.jsonl").read_text().splitlines()
    ]
    assert [entry["chosen_by"] for entry in ledger[:3]] == ["start", "start", "expected_gain"]
    spent = np.cumsum([entry["cost"] for entry in ledger])
    assert spent[-1] >= 6 > spent[-2]  # bought until the money was gone


def test_killed_and_resumed_equals_uninterrupted(call, finished, tmp_path):
    """Half of one ledger is what a kill leaves behind: its last request is recorded and not yet learned from."""
    directory, _ = finished("sensor_campaign")
    copy = tmp_path / "a run"
    shutil.copytree(directory, copy)
    whole = (copy / "checkpoints" / "ledger_active_0.jsonl").read_text()
    lines = whole.splitlines()[:3]
    torn = {**json.loads(lines[-1]), "scores": {}}
    (copy / "checkpoints" / "ledger_active_0.jsonl").write_text("\n".join([*lines[:-1], json.dumps(torn)]) + "\n")
    (copy / "checkpoints" / "ledger_informed_0.jsonl").unlink()
    outcome = call(f"resume={copy}")
    assert outcome.code == 0, outcome.err
    assert (copy / "checkpoints" / "ledger_active_0.jsonl").read_text() == whole
    before, after = (json.loads((d / "summary.json").read_text())["metrics"] for d in (directory, copy))
    assert before == after


def test_strategies_ignore_prices_only_where_they_are_told_to():
    assert campaigns.ARMS["greedy"].strategy == ExpectedGain(per_cost=False)
    for name in ("greedy_per_cost", "active", "informed"):
        assert to_mapping(campaigns.ARMS[name].strategy)["per_cost"] is True


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"noise_factors": [2.0, 1.0]}, "noise_factors: "),
        ({"precision": "float32"}, "precision: "),
        ({"emulator": {"choose": "recurrent"}}, "emulator.choose: "),
        ({"regions": {"x": {"lat": [5.0, 1.0], "lon": [0.0, 1.0], "cost": 1.0}}}, "lat: "),
        ({"regions": {"x": {"lat": [0.0, 1.0], "lon": [0.0, 1.0], "cost": 0.0}}}, "cost: "),
    ],
)
def test_refusals_name_the_key(changes, said):
    with pytest.raises(ConfigError, match=said):
        build(campaigns.Config, SMALL | changes)
