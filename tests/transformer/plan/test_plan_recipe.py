"""Recipes: their bubble against the ticks of this library's schedules, and what they refuse."""

import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import ModelConfig, preset
from jaxsci.transformer.parallel import ParallelConfig, bubble
from jaxsci.transformer.plan.recipe import POLICIES, Recipe, check_recipe, depth, from_parallel

MODEL = ModelConfig(layers=8, width=32, heads=8, sequence=16, vocabulary=101)


@pytest.mark.parametrize(
    "schedule, virtual, share",
    [("gpipe", 1, 3 / 15), ("1f1b", 1, 3 / 15), ("lockstep", 1, 6 / 18), ("interleaved", 2, 3 / 27)],
)
def test_bubble(schedule, virtual, share):
    """p = 4, m = 12: (p-1)/(v m+p-1), in lockstep 2 (p-1)/(m+2 (p-1))."""
    recipe = Recipe(data=2, pipe=4, virtual=virtual, batch=48, microbatch=2, schedule=schedule)
    assert recipe.microbatches == 12
    assert recipe.bubble == pytest.approx(share)


def test_bubbles_of_the_study():
    for p, m, percent in ((16, 640, 2.3), (64, 1600, 3.8), (64, 1336, 4.5)):
        assert round(100 * Recipe(pipe=p, batch=m).bubble, 1) == percent


@pytest.mark.parametrize(
    "plan, pipe",
    [
        (ParallelConfig(microbatches=8), 4),
        (ParallelConfig(microbatches=8, schedule="gpipe"), 4),
        (ParallelConfig(microbatches=8, schedule="gpipe", virtual=2), 4),
        (ParallelConfig(microbatches=8), 1),
    ],
)
def test_a_plan_of_this_library_keeps_its_ticks(plan, pipe):
    recipe = from_parallel(MODEL, plan, {"data": 1, "fsdp": 2, "pipe": pipe, "tensor": 2}, 32)
    assert recipe.bubble == pytest.approx(bubble(plan, pipe))
    assert (recipe.microbatches, recipe.microbatch, recipe.devices) == (8, 2, 4 * pipe)


@pytest.mark.parametrize(
    "precision, fsdp, policy",
    [("bfloat16", 1, "jax"), ("bfloat16", 2, "jax"), ("float32", 1, "fp32"), ("float32", 2, "jax_fp32")],
)
def test_precision_decides_the_state(precision, fsdp, policy):
    plan = ParallelConfig(precision=precision)
    mesh = {"data": 1, "fsdp": fsdp, "pipe": 1, "tensor": 1}
    assert from_parallel(MODEL, plan, mesh, 4).policy == policy


def test_bytes_per_parameter():
    totals = {"study14": 14, "fp16": 16, "bf16": 18, "megatron20": 20, "fp32": 16}
    assert {name: POLICIES[name].total for name in totals} == totals


def test_uneven_layers_count_as_the_fullest_stage():
    uneven = ModelConfig(layers=6, width=32, heads=8, sequence=16)
    assert depth(uneven, Recipe(pipe=4)) == 2
    assert depth(uneven, Recipe(pipe=4, virtual=2, schedule="interleaved")) == 2


@pytest.mark.parametrize(
    "recipe, says",
    [
        (
            Recipe(fsdp=6, pipe=64, tensor=8, batch=9600),
            "6 does not divide model.width 25600; use mesh.fsdp=2 mesh.data=3",
        ),
        (Recipe(tensor=7), "mesh.tensor: 7 does not divide model.heads 160"),
        (Recipe(pipe=64, batch=96, schedule="gpipe"), "mesh.pipe: 64 does not divide parallel.microbatches 96"),
        (Recipe(pipe=64, virtual=4, batch=64, schedule="interleaved"), "64 stages x 4 chunks exceed model.layers 128"),
        (Recipe(fsdp=4, batch=4, zero=0), "zero: 0 splits nothing over fsdp=4; use data=4"),
        (Recipe(pipe=2, batch=2, zero=3), "parallel.zero: 3 needs mesh.pipe=1"),
    ],
)
def test_what_cannot_run_is_refused_in_a_line(recipe, says):
    with pytest.raises(ConfigError) as caught:
        check_recipe(preset("gpt_1t"), recipe)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_what_can_run_passes():
    check_recipe(preset("gpt_1t"), Recipe(data=3, fsdp=2, pipe=64, tensor=8, batch=9600, schedule="lockstep"))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"batch": 5, "data": 2}, "batch: expected a multiple of data x fsdp x microbatch = 2, got 5"),
        ({"virtual": 2}, "virtual: expected 1 with schedule 1f1b"),
        ({"policy": "int4"}, "policy: expected one of study14"),
        ({"zero": 4}, "zero: expected 0, 1, 2 or 3"),
        ({"schedule": "zigzag"}, "schedule: expected one of gpipe"),
    ],
)
def test_impossible_recipes(change, says):
    with pytest.raises(ConfigError, match=says):
        Recipe(**change)
