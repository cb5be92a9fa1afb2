"""Step times: the arithmetic of the 1 T recipe, gradients against differences, and the shape of the model."""

from dataclasses import replace

import pytest

from jaxsci.transformer.config import ModelConfig, preset
from jaxsci.transformer.counts import Recompute, hardware_flops, model_flops
from jaxsci.transformer.plan.hardware import hardware
from jaxsci.transformer.plan.published import FRONTIER_RUNS, MEGATRON
from jaxsci.transformer.plan.recipe import Recipe
from jaxsci.transformer.plan.time import (
    Rates,
    data_traffic,
    efficiency,
    executed_flops,
    pipe_traffic,
    rates,
    sensitivities,
    step_time,
    tensor_traffic,
    use,
)

GPT = ModelConfig(layers=8, width=64, heads=8, sequence=32, vocabulary=128)
PLAIN = Rates(1e12, 0.5, 100.0, 1e9, 2e9, 3e9, fill=1.0)


def test_the_trillion_on_paper():
    """Seconds at peak and on the links of Frontier, within the sheet's 1 % (0.5 s: two digits of 0.525)."""
    run = FRONTIER_RUNS[2]
    recipe = run.recipe()
    assert (recipe.devices, recipe.batch) == (3072, 9600)
    assert executed_flops(run.model, recipe) / recipe.devices / 191.5e12 == pytest.approx(273, rel=0.01)
    tokens = recipe.batch * run.model.sequence
    assert model_flops(run.model) * tokens / recipe.devices / 191.5e12 == pytest.approx(205, rel=0.01)
    assert tensor_traffic(run.model, recipe) == pytest.approx(3.52e12, rel=0.01)
    assert tensor_traffic(run.model, recipe) / 50e9 == pytest.approx(70, rel=0.01)
    assert pipe_traffic(run.model, recipe) / 12.5e9 == pytest.approx(3.4, rel=0.015)  # 3.36, printed as 3.4
    assert data_traffic(run.model, recipe) / 12.5e9 == pytest.approx(0.525, rel=0.01)


def test_the_rates_of_frontier():
    found = [rates(hardware("mi250x"), run.recipe()) for run in FRONTIER_RUNS]
    assert [r.tensor_bandwidth for r in found] == [200e9, 50e9, 50e9]
    assert [r.pipe_bandwidth for r in found] == [50e9, 12.5e9, 12.5e9]
    assert [r.network_bandwidth for r in found] == [12.5e9] * 3


def test_the_efficiency_of_another_machine_does_not_transfer():
    """The A100's on Frontier: 492 s and 55 % (1 T), 57 % (175 B), where 31.96 and 36.14 % were published."""
    a100 = hardware("a100")
    borrowed = replace(hardware("mi250x"), e_max=a100.e_max, x0=a100.x0, fill=1.0, pipe_exposed=0.0)
    found = {}
    for run in FRONTIER_RUNS[1:]:
        seconds = float(step_time(run.model, run.recipe(), rates(borrowed, run.recipe())).total)
        found[run.name] = seconds, use(run.model, run.recipe(), seconds, 191.5e12).hfu
    assert found["1 T"] == pytest.approx((492, 0.55), rel=0.01)
    assert found["175 B"][1] == pytest.approx(0.57, rel=0.01)


@pytest.mark.parametrize("row", MEGATRON, ids=lambda row: row.name)
def test_utilisation_from_published_seconds(row):
    recipe, seconds, _ = row.runs[1]
    of = use(row.model, recipe, seconds, hardware("a100").peak_flops)
    assert 100 * of.mfu == pytest.approx(row.mfu, abs=0.2)  # three digits of the seconds
    assert 100 * of.hfu == pytest.approx(row.hfu, abs=0.2)
    assert of.mfu_causal < of.mfu and of.hfu_causal < of.hfu


CASES = {
    "pipeline": Recipe(fsdp=2, pipe=4, tensor=2, batch=64, microbatch=2),
    "lockstep": Recipe(fsdp=2, pipe=4, tensor=2, batch=64, schedule="lockstep"),
    "circular": Recipe(pipe=2, tensor=2, virtual=2, batch=64, schedule="gpipe", recompute="nested"),
    "zero 3": Recipe(fsdp=8, batch=64, zero=3, recompute="selective"),
}


@pytest.mark.parametrize("name", CASES)
def test_sensitivities_are_central_differences(name):
    """d log T / d log x for every rate and the micro-batch. Differences are taken in float64 with a step of 1e-5, so
    their own error is about 1e-10; the derivative is taken in float32, rounding 1e-7.
    """
    recipe, h = CASES[name], 1e-5
    found = sensitivities(GPT, recipe, PLAIN)
    here = step_time(GPT, recipe, PLAIN).total
    for field in Rates._fields:
        up, down = (
            step_time(GPT, recipe, PLAIN._replace(**{field: getattr(PLAIN, field) * (1 + s)})).total for s in (h, -h)
        )
        assert getattr(found.rates, field) == pytest.approx((up - down) / (2 * h) / here, abs=2e-6), field
    up, down = (step_time(GPT, recipe, PLAIN, recipe.microbatch * (1 + s)).total for s in (h, -h))
    assert found.microbatch == pytest.approx((up - down) / (2 * h) / here, abs=2e-6)


def test_the_micro_batch_counts_where_it_should():
    """The bubble grows with it, in proportion; without a pipeline only ZeRO-3 notices, which gathers less often."""
    pipeline = CASES["pipeline"]
    parts = step_time(GPT, pipeline, PLAIN)
    assert sensitivities(GPT, pipeline, PLAIN).microbatch == pytest.approx(parts.bubble / parts.total, abs=2e-6)
    whole = step_time(GPT, pipeline, PLAIN, pipeline.microbatch * 2).total
    assert whole == pytest.approx(step_time(GPT, replace(pipeline, microbatch=4), PLAIN).total)
    zero = CASES["zero 3"]
    parts = step_time(GPT, zero, PLAIN)
    assert sensitivities(GPT, zero, PLAIN).microbatch == pytest.approx(-parts.data / parts.total, abs=2e-6)
    assert sensitivities(GPT, replace(zero, zero=1), PLAIN).microbatch == 0


def test_speeds_pull_down_as_much_as_all_time_there_is():
    """T is homogeneous of degree -1 in the four speeds (Euler), whatever the shares."""
    for recipe in CASES.values():
        found = sensitivities(GPT, recipe, PLAIN).rates
        speeds = found.peak + found.tensor_bandwidth + found.pipe_bandwidth + found.network_bandwidth
        assert speeds == pytest.approx(-1, abs=2e-6)  # float32
        assert found.peak == pytest.approx(found.e_max, abs=1e-6)


def test_parts_sum_to_the_formula():
    """T (1 - bubble) = everything that is in the pipeline, for fill = 1."""
    for name in ("pipeline", "lockstep", "circular"):
        recipe = CASES[name]
        parts = step_time(GPT, recipe, PLAIN)
        busy = parts.compute + parts.tensor + parts.pipeline
        assert parts.total - parts.data == pytest.approx(busy / (1 - recipe.bubble))


def test_efficiency_rises_to_its_limit():
    assert efficiency(PLAIN, 100.0) == pytest.approx(0.25)  # half of e_max at x0
    assert efficiency(PLAIN, 1e9) == pytest.approx(0.5)


@pytest.mark.parametrize("recompute, k", [("none", 4), ("selective", 5), ("full", 6), ("nested", 8)])
def test_tensor_traffic(recompute, k):
    """k (l/p) m 2 (t-1)/t 2 b s h, l/p = 2, m = 16, t = 4, b = 2, s = 32, h = 64."""
    recipe = Recipe(pipe=4, tensor=4, batch=32, microbatch=2, recompute=recompute)
    assert tensor_traffic(GPT, recipe) == pytest.approx(k * 2 * 16 * 2 * 3 / 4 * 2 * 2 * 32 * 64)
    assert tensor_traffic(GPT, replace(recipe, tensor=1)) == 0


def test_pipe_traffic_of_each_schedule():
    """Micro-batches of 2 b s h/t bytes: 2 v m, streamed 4 v m, lockstep 2 (m + 2 (p-1)); none with one stage."""
    one = 2 * 32 * 64 / 2
    base = Recipe(pipe=4, tensor=2, batch=16)
    found = {
        schedule: pipe_traffic(GPT, replace(base, schedule=schedule, virtual=v)) / one
        for schedule, v in (("1f1b", 1), ("interleaved", 2), ("gpipe", 2), ("lockstep", 1))
    }
    assert found == {"1f1b": 32, "interleaved": 64, "gpipe": 128, "lockstep": 44}
    assert pipe_traffic(GPT, replace(base, pipe=1)) == 0


def test_data_traffic_of_zero():
    """One gather and one scatter per step; ZeRO-3 two gathers and a scatter for every micro-batch."""
    one, three = (Recipe(fsdp=4, batch=4, zero=zero) for zero in (1, 3))
    assert data_traffic(GPT, three) == pytest.approx(1.5 * data_traffic(GPT, one))
    assert data_traffic(GPT, replace(three, batch=8)) == pytest.approx(3 * data_traffic(GPT, one))
    assert data_traffic(GPT, replace(one, fsdp=1)) == 0


def test_recomputation_costs_what_it_recomputes():
    """4/3 of the model's FLOPs with one more forward pass, 5/3 nested; the head is computed once (1 T: 0.7 %)."""
    model = preset("gpt_1t")
    factors: tuple[tuple[Recompute, float], ...] = (("none", 1), ("full", 4 / 3), ("nested", 5 / 3))
    for recompute, factor in factors:
        flops = executed_flops(model, Recipe(pipe=64, batch=64, recompute=recompute))
        assert flops / (64 * 2048) == pytest.approx(hardware_flops(model, recompute))
        assert flops / (64 * 2048 * model_flops(model)) == pytest.approx(factor, rel=0.007)


def test_padding_layers_and_repeated_heads_cost_time():
    """l = 6 on p = 4 works through 8 layers; in lockstep all four stages compute the loss."""
    model, tokens = replace(GPT, layers=6), 8 * 32
    head = 6 * 64 * 128
    layers = hardware_flops(model, "full") - head
    recipe = Recipe(pipe=4, batch=8)
    assert executed_flops(model, recipe) == pytest.approx(tokens * (layers * 8 / 6 + head))
    assert executed_flops(model, replace(recipe, schedule="lockstep")) == pytest.approx(
        tokens * (layers * 8 / 6 + 4 * head)
    )
