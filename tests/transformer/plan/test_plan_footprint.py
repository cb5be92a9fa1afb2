"""Bytes per device from shapes and splits, against the compilers' own."""

import jax
import pytest
from cuda_compiler import needs_compiler

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import ModelConfig, preset
from jaxsci.transformer.counts import parameters
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.plan.compile import compile_ahead
from jaxsci.transformer.plan.footprint import footprint
from jaxsci.transformer.plan.residuals import stored_arrays, stored_bytes
from jaxsci.transformer.plan.target import TARGETS

AXES = ("data", "fsdp", "pipe", "tensor")
SMALL = ModelConfig(layers=8, width=512, heads=8, sequence=256, vocabulary=1024, bias=True)


def mesh(*sizes: int) -> dict[str, int]:
    return dict(zip(AXES, sizes, strict=True))


def test_state_is_three_copies_of_the_parameters():
    """float32 weights and two moments, 12 bytes a parameter; vocabulary 51200 = 400 tiles needs no padding."""
    model = preset("gpt_1_4b")
    alone = footprint(model, ParallelConfig(), mesh(1, 1, 1, 1), 1).arguments
    assert alone["master weights"] == 4 * parameters(model)
    assert alone["Adam moments"] == 8 * parameters(model)
    split = footprint(model, ParallelConfig(microbatches=8), mesh(1, 2, 4, 8), 16).arguments
    # Norms and biases (2e-4 of the parameters) are not split over fsdp, tables not over pipe.
    assert split["master weights"] == pytest.approx((alone["master weights"] + 3 * 4 * 53248 * 2112) / 64, rel=0.02)


def test_memory_of_1f1b_does_not_depend_on_the_micro_batches_and_that_of_gpipe_does():
    model, shape = preset("gpt_1t"), mesh(1, 4, 64, 8)

    def temporaries(schedule, m):
        plan = ParallelConfig(microbatches=m, precision="bfloat16", schedule=schedule)
        return sum(footprint(model, plan, shape, 4 * m).temporaries.values())

    assert temporaries("1f1b", 512) == temporaries("1f1b", 6400)
    shard = 2048 * 25600 * 2 // 8  # one micro-batch between layers: b s h 2 / t bytes
    grown = temporaries("gpipe", 1600) - temporaries("gpipe", 512)
    assert grown == shard * ((1600 - 512) + 2 * (1600 - 512) // 64)  # inputs of all ticks, slots streaming both ways


def test_what_a_layer_keeps():
    model, plan = preset("gpt_1t"), ParallelConfig(precision="bfloat16")
    shard = 2048 * 25600 * 2 // 8
    assert stored_bytes(model, plan, 8, 1, "full") == pytest.approx(shard, rel=1e-3)  # and its number
    assert stored_bytes(model, plan, 8, 2, "none") == pytest.approx(
        2 * stored_bytes(model, plan, 8, 1, "none"), rel=0.01
    )
    # qkv, the attended values, the hidden units, its input and the sum after attention.
    large = (3 + 1 + 4) * 2048 * 25600 * 2 // 8 + 2 * shard
    assert stored_bytes(model, plan, 8, 1, "selective") == pytest.approx(large, rel=0.02)
    # Dense attention keeps s x s weights, 16-bit, beside what chunks keep.
    dense = ParallelConfig(precision="bfloat16", attention="dense")
    weights = 20 * 2048 * 2048 * 2
    assert stored_bytes(model, dense, 8, 1, "none") - stored_bytes(model, plan, 8, 1, "none") >= weights
    assert all(a.shape[0] == 1 for a in stored_arrays(model, plan, 8, 1, "selective") if a.ndim > 3)


def test_widened_is_float32_and_no_less():
    plan = ParallelConfig(microbatches=4, precision="bfloat16")
    shape = mesh(1, 2, 2, 2)
    narrow = footprint(SMALL, plan, shape, 16).bytes_per_device
    wide = footprint(SMALL, plan, shape, 16, widened=True)
    assert wide == footprint(SMALL, ParallelConfig(microbatches=4), shape, 16)
    assert narrow < wide.bytes_per_device < 2 * narrow


def test_parts_that_do_not_fit_together_are_refused():
    with pytest.raises(ConfigError, match="mesh.tensor"):
        footprint(SMALL, ParallelConfig(), mesh(1, 1, 1, 3), 8)


# Tolerance of all comparisons: 15 %, the goal of the planner. Measured: mean 3 %, largest 9 % for layers in a loop.
# The compiler packs arrays with gaps, keeps a transposed weight or two, and fuses some arrays away. Unrolled layers
# leave it more to fuse: there the sum is too high (28 % for twelve).
CPU = [
    ((1, 8, 1, 1), dict(microbatches=2)),
    ((1, 2, 2, 2), dict(microbatches=8)),
    ((1, 2, 2, 2), dict(microbatches=8, schedule="gpipe")),
    ((2, 2, 2, 1), dict(microbatches=8, remat="selective")),
]


@pytest.mark.parametrize("sizes, choices", CPU)
def test_against_the_cpu_compiler(sizes, choices):
    plan, shape = ParallelConfig(**choices), mesh(*sizes)
    expected = compile_ahead(SMALL, plan, shape, 32, TARGETS["cpu"])
    found = footprint(SMALL, plan, shape, 32)
    assert sum(found.arguments.values()) == pytest.approx(expected.argument_bytes, rel=1e-3)  # step, key, counters
    assert found.bytes_per_device == pytest.approx(expected.bytes_per_device, rel=0.15)


def test_a_cpu_lies_between_narrow_and_widened():
    """Older compilers widen all 16-bit numbers, newer ones few."""
    plan, shape = ParallelConfig(microbatches=8, precision="bfloat16"), mesh(1, 2, 2, 2)
    expected = compile_ahead(SMALL, plan, shape, 32, TARGETS["cpu"])
    assert expected.upper_bound
    narrow, wide = (footprint(SMALL, plan, shape, 32, widened=w).bytes_per_device for w in (False, True))
    assert 0.85 * narrow < expected.bytes_per_device < 1.15 * wide


@needs_compiler
def test_against_the_gpu_compiler():
    plan, shape = ParallelConfig(microbatches=8, precision="bfloat16"), mesh(1, 2, 2, 2)
    expected = compile_ahead(SMALL, plan, shape, 32, TARGETS["h100"])
    assert footprint(SMALL, plan, shape, 32).bytes_per_device == pytest.approx(expected.bytes_per_device, rel=0.15)


GPU = [
    ("gpt_1_4b", (1, 8, 1, 1), dict(microbatches=4), 32),
    ("gpt_1_4b", (1, 8, 1, 1), dict(microbatches=4, zero=3), 32),
    ("gpt_1_4b", (1, 2, 4, 1), dict(microbatches=8), 16),
    ("gpt_1_4b", (1, 2, 4, 1), dict(microbatches=8, schedule="gpipe"), 16),
    ("gpt_1_4b", (2, 1, 2, 2), dict(microbatches=8), 16),
    ("gpt_1_4b", (2, 1, 2, 2), dict(microbatches=8, schedule="gpipe"), 16),
    ("gpt_1_4b", (1, 1, 8, 1), dict(microbatches=32, remat="selective"), 32),
    ("gpt_22b", (1, 2, 4, 8), dict(microbatches=64), 128),
    ("gpt_22b", (1, 2, 4, 8), dict(microbatches=64, schedule="gpipe"), 128),
    ("gpt_22b", (1, 8, 1, 8), dict(microbatches=8), 64),
    ("gpt_175b", (1, 16, 16, 4), dict(microbatches=640), 10240),
    ("gpt_1t", (1, 4, 64, 8), dict(microbatches=1600, remat="selective"), 6400),
]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name, sizes, choices, batch", GPU)
def test_against_the_gpu_compiler_at_size(name, sizes, choices, batch):
    model, plan, shape = preset(name), ParallelConfig(precision="bfloat16", **choices), mesh(*sizes)
    expected = compile_ahead(model, plan, shape, batch, TARGETS["h100"])
    found = footprint(model, plan, shape, batch)
    assert sum(found.arguments.values()) == pytest.approx(expected.argument_bytes, rel=1e-3)
    assert found.bytes_per_device == pytest.approx(expected.bytes_per_device, rel=0.15)


def test_nothing_is_allocated():
    before = len(jax.live_arrays())
    footprint(preset("gpt_1t"), ParallelConfig(microbatches=64, precision="bfloat16"), mesh(1, 4, 64, 8), 256)
    assert len(jax.live_arrays()) <= before + 2  # a key or two
