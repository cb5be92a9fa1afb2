"""How well a step uses its devices: tokens per second, model and hardware FLOPs utilisation.

MFU = model FLOPs / (devices x seconds x peak); HFU counts recomputation too. Both are given with attention
counted whole and counted causally (half), because publications differ: never compare one with another.
"""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.counts import Recompute, hardware_flops, model_flops
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.plan.hardware import HARDWARE


class Peak(NamedTuple):
    """Dense 16-bit matrix FLOP/s of one visible device."""

    name: str
    flops: float
    source: str


# Matched against `device_kind`, the first hit counts, so "H100 PCIe" stands before "H100". What a CPU reaches is
# measured, not looked up.
PEAKS = tuple(Peak(h.kind, h.peak_flops, h.sources[0]) for h in HARDWARE.values() if h.platform != "cpu")


class Utilisation(NamedTuple):
    """Shares of the peak of all devices; `causal`: attention counted as half."""

    tokens_per_second: float
    mfu: float
    hfu: float
    mfu_causal: float
    hfu_causal: float


def known_peak(kind: str) -> Peak | None:
    """The entry for a `device_kind`, or None: measure with `measured_peak` then."""
    return next((peak for peak in PEAKS if peak.name.lower() in kind.lower()), None)


def measured_peak(size: int = 1024, repeats: int = 5, dtype: str = "float32") -> Peak:
    """Best of several square products on one device: the floor to compare with where no data sheet says
    better.
    """
    a = jnp.ones((size, size), dtype)
    product = jax.jit(lambda a, b: a @ b)
    product(a, a).block_until_ready()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return Peak("measured", 2 * size**3 / best, f"{size} x {size} product in {dtype}, best of {repeats}")


def recomputation(plan: ParallelConfig, pipe: int) -> Recompute:
    """What the backward pass recomputes: a stage of a 1F1B pipeline always, else what `remat` says."""
    if plan.schedule == "1f1b" and pipe > 1:
        return "nested" if plan.remat == "nested" else "full"
    if plan.remat == "nested":
        return "nested" if pipe > 1 else "full"
    return {"none": "none", "selective": "selective"}.get(plan.remat, "full")  # type: ignore[return-value]


def utilisation(
    model: ModelConfig, plan: ParallelConfig, pipe: int, tokens_per_second: float, devices: int, peak: float
) -> Utilisation:
    """Utilisation of `devices` of `peak` FLOP/s each that train `tokens_per_second` tokens together."""
    recompute, rate = recomputation(plan, pipe), tokens_per_second / (devices * peak)
    return Utilisation(
        tokens_per_second,
        rate * model_flops(model),
        rate * hardware_flops(model, recompute),
        rate * model_flops(model, causal=True),
        rate * hardware_flops(model, recompute, causal=True),
    )
