"""Scaling curves: what must be exact (one replica, no bubble), and the published trends."""

from dataclasses import replace

import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import preset
from jaxsci.transformer.plan.hardware import hardware
from jaxsci.transformer.plan.published import FRONTIER_RUNS
from jaxsci.transformer.plan.recipe import Recipe
from jaxsci.transformer.plan.scaling import strong, weak
from jaxsci.transformer.plan.time import rates, step_time

MACHINE = hardware("mi250x")
TRILLION = FRONTIER_RUNS[2]


def test_the_first_point_is_the_measure():
    for curve in (weak, strong):
        found = curve(TRILLION.model, TRILLION.recipe(), MACHINE, (512, 1024))
        assert found.efficiency[0] == 1 and found.devices == (512, 1024)


def test_strong_scaling_is_the_bubble_when_nothing_else_costs():
    """Without exposed traffic and with fill = 1: (1 - bubble of the last) / (1 - bubble of the first)."""
    ideal = replace(MACHINE, tensor_exposed=0, pipe_exposed=0, data_exposed=0, fill=1.0)
    found = strong(TRILLION.model, TRILLION.recipe(8016), ideal, (512, 1024, 3072))
    busy = np.array([m / (m + 63) for m in (8016, 4008, 1336)])
    assert found.efficiency == pytest.approx(busy / busy[0])
    assert weak(TRILLION.model, TRILLION.recipe(), ideal, (512, 3072)).efficiency == pytest.approx([1, 1])


def test_weak_scaling_loses_only_to_the_replicas_traffic():
    found = weak(TRILLION.model, TRILLION.recipe(), MACHINE, (1024, 2048, 3072))
    assert np.all(np.diff(found.efficiency) < 0) and found.efficiency[-1] > 0.999
    assert np.ptp(found.seconds) / found.seconds[0] < 1e-3


def test_seconds_are_those_of_a_step():
    recipe = TRILLION.recipe()
    assert (
        weak(TRILLION.model, recipe, MACHINE, (3072,)).seconds[0]
        == step_time(TRILLION.model, recipe, rates(MACHINE, recipe)).total
    )


def test_observed_trends():
    """Larger TP lowers throughput, steeply beyond a node; more micro-batches raise it; more stages at a fixed
    batch lower it; keeping PP / m keeps it.
    """
    model = preset("gpt_175b")

    def throughput(tensor, pipe, batch):
        recipe = Recipe(pipe=pipe, tensor=tensor, batch=batch)
        return batch / (recipe.devices * float(step_time(model, recipe, rates(MACHINE, recipe)).total))

    by_tensor = [throughput(t, 8, 320) for t in (1, 2, 4, 8, 16)]
    losses = 1 - np.array(by_tensor[1:]) / by_tensor[:-1]
    assert np.all(losses > 0) and losses[-1] > 2 * losses[-2]
    assert np.all(np.diff([throughput(4, 8, m) for m in (16, 64, 256, 1024)]) > 0)
    assert np.all(np.diff([throughput(4, p, 128) for p in (4, 8, 16, 32)]) < 0)
    kept = [throughput(4, p, 40 * p) for p in (8, 16, 32)]
    assert np.ptp(kept) / kept[0] < 0.02


def test_devices_that_make_no_replica():
    with pytest.raises(ConfigError, match="multiple of pipe x tensor = 512, got 1000; the nearest is 512"):
        weak(TRILLION.model, TRILLION.recipe(), MACHINE, (512, 1000))
    with pytest.raises(ConfigError, match="batch: expected a multiple of"):
        strong(TRILLION.model, TRILLION.recipe(9600), MACHINE, (512, 512 * 7))
