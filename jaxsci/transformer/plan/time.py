"""How long a step takes, by closed formulas: arithmetic, traffic that nothing hides, and turns without work.

    T = (F / (G peak e(h/t)) + V_t/w_t + V_p/w_p) (1 + fill idle / (v m)) + V_d/w_n,   e(x) = e_max x / (x + x0)

F hardware FLOPs of a step (`counts`), G devices, V bytes that a device sends (tensor, pipeline, data), w
bandwidths, v m turns with work, idle turns without, h width. Every V counts by its exposed share. Gradients
are reduced once, outside of the pipeline: their traffic is not stretched by the bubble. Recomputation that
the hardware avoids and traffic that it hides are in e and in the shares: one set of them per machine.

Everything here is plain arithmetic on `Rates`, a pytree, and on the micro-batch: differentiable in both, and exact in
float64 on Python numbers.

Sources: Narayanan et al. 2104.04473, sections 3 and 4; Korthikanti et al. 2205.05198, section 4.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.counts import hardware_flops, model_flops, parameters
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.recipe import POLICIES, Recipe, depth
from jaxsci.transformer.utilisation import Utilisation

Scalar = float | Float[Array, ""]


class Rates(NamedTuple):
    """What a machine offers a recipe: FLOP/s per device, efficiency, bytes per second, exposed shares."""

    peak: Scalar
    e_max: Scalar
    x0: Scalar
    tensor_bandwidth: Scalar
    pipe_bandwidth: Scalar
    network_bandwidth: Scalar
    tensor_exposed: Scalar = 1.0
    pipe_exposed: Scalar = 1.0
    data_exposed: Scalar = 1.0
    fill: Scalar = 1.0


class StepTime(NamedTuple):
    """Seconds of a step, as parts of `total`: arithmetic, exposed traffic, and turns lost to the bubble."""

    compute: Scalar
    tensor: Scalar
    pipeline: Scalar
    data: Scalar
    bubble: Scalar

    @property
    def total(self) -> Scalar:
        """Seconds of the whole step."""
        return self.compute + self.tensor + self.pipeline + self.data + self.bubble


class Sensitivities(NamedTuple):
    """Elasticities d log T / d log x: by how many per cent a step changes when x grows by one per cent."""

    rates: Rates
    microbatch: Scalar


def rates(hardware: Hardware, recipe: Recipe) -> Rates:
    """The links that the groups of `recipe` use when tensor neighbours lie closest, then pipe, then replicas."""
    stage = recipe.tensor
    pipe = stage * recipe.pipe
    return Rates(
        hardware.peak_flops,
        hardware.e_max,
        hardware.x0,
        hardware.bandwidth(stage),
        hardware.bandwidth(pipe),
        hardware.bandwidth(pipe * recipe.replicas),
        hardware.tensor_exposed,
        hardware.pipe_exposed,
        hardware.data_exposed,
        hardware.fill,
    )


def efficiency(rates: Rates, width_per_device: Scalar) -> Scalar:
    """Share of the peak that a product reaches whose matrices are this wide on a device."""
    return rates.e_max * width_per_device / (width_per_device + rates.x0)


def step_time(model: ModelConfig, recipe: Recipe, rates: Rates, microbatch: Scalar | None = None) -> StepTime:
    """Seconds of one optimizer step. Does not ask whether the recipe can run: `check_recipe` does.

    `microbatch`: sequences of a micro-batch as a real number, to differentiate by; `None` is the recipe's.
    """
    speed = rates.peak * efficiency(rates, model.width / recipe.tensor)
    compute = executed_flops(model, recipe) / recipe.devices / speed
    tensor = rates.tensor_exposed * tensor_traffic(model, recipe) / rates.tensor_bandwidth
    pipeline = rates.pipe_exposed * pipe_traffic(model, recipe, microbatch) / rates.pipe_bandwidth
    data = rates.data_exposed * data_traffic(model, recipe, microbatch) / rates.network_bandwidth
    lost = rates.fill * recipe.idle / (recipe.virtual * _microbatches(recipe, microbatch))
    return StepTime(compute, tensor, pipeline, data, lost * (compute + tensor + pipeline))


def sensitivities(model: ModelConfig, recipe: Recipe, rates: Rates) -> Sensitivities:
    """By `jax.grad`. A larger micro-batch fills the pipeline more slowly, and under ZeRO-3 gathers weights less often;
    that larger matrices come closer to the peak is not in the formula.
    """
    given = jax.tree.map(jnp.asarray, Sensitivities(rates, float(recipe.microbatch)))
    seconds, slopes = jax.value_and_grad(lambda at: step_time(model, recipe, at.rates, at.microbatch).total)(given)
    return jax.tree.map(lambda x, slope: float(x * slope / seconds), given, slopes)


def executed_flops(model: ModelConfig, recipe: Recipe) -> float:
    """FLOPs of a step on all devices: `hardware_flops`, and what the fullest stage makes the others wait for.

    Padding layers are worked through. In lockstep every stage computes the loss of every micro-batch.
    """
    padding = depth(model, recipe) * recipe.pipe / model.layers
    head = 6 * model.width * model.vocabulary
    layers = hardware_flops(model, recipe.recompute) - head
    heads = recipe.pipe if recipe.schedule == "lockstep" else 1
    return recipe.batch * model.sequence * (layers * padding + head * heads)


def tensor_traffic(model: ModelConfig, recipe: Recipe) -> float:
    """Bytes that a device sends to its tensor group: k (l/p) m 2 (t-1)/t x one micro-batch.

    k all-reduces, or pairs of gather and scatter, per layer: 4, recomputed 6, nested 8; 5 where selective
    recomputation gathers a sequence-sharded input again.
    """
    regathered = recipe.sequence_parallel and recipe.recompute == "selective"
    k = {"none": 4, "selective": 5 if regathered else 4, "full": 6, "nested": 8}[recipe.recompute]
    ring = 2 * (recipe.tensor - 1) / recipe.tensor
    return k * depth(model, recipe) * ring * recipe.batch / recipe.replicas * _sequence_bytes(model, recipe)


def pipe_traffic(model: ModelConfig, recipe: Recipe, microbatch: Scalar | None = None) -> Scalar:
    """Bytes that a device sends to the next and the previous stage: forward and backward, v m times.

    The streamed schedule passes its waiting micro-batches on as well; lockstep sends in idle turns too.
    """
    if recipe.pipe == 1:
        return 0.0
    busy = recipe.virtual * recipe.batch / recipe.replicas
    waiting = recipe.idle * _microbatch(recipe, microbatch) if recipe.schedule == "lockstep" else 0
    sends = 4 if recipe.schedule == "gpipe" else 2
    split = recipe.tensor if recipe.sequence_parallel else 1
    return sends * (busy + waiting) * _sequence_bytes(model, recipe) / split


def data_traffic(model: ModelConfig, recipe: Recipe, microbatch: Scalar | None = None) -> Scalar:
    """Bytes that a device sends to its replicas: 2 (2 N/(t p)) (d-1)/d at 16 bits.

    ZeRO-3 gathers every layer's weights twice and scatters its gradients once in each micro-batch.
    """
    d = recipe.replicas
    shard = POLICIES[recipe.policy].weights * parameters(model) / (recipe.tensor * recipe.pipe)
    passes = 3 * _microbatches(recipe, microbatch) if recipe.zero == 3 else 2
    return passes * shard * (d - 1) / d


def use(model: ModelConfig, recipe: Recipe, seconds: float, peak: float) -> Utilisation:
    """Utilisation of a step of `seconds` on devices of `peak` FLOP/s each: MFU and HFU, attention counted
    whole and causally.
    """
    tokens = recipe.batch * model.sequence / seconds
    rate = tokens / (recipe.devices * peak)
    return Utilisation(
        tokens,
        rate * model_flops(model),
        rate * hardware_flops(model, recipe.recompute),
        rate * model_flops(model, causal=True),
        rate * hardware_flops(model, recipe.recompute, causal=True),
    )


def _microbatch(recipe: Recipe, given: Scalar | None) -> Scalar:
    return recipe.microbatch if given is None else given


def _microbatches(recipe: Recipe, given: Scalar | None) -> Scalar:
    """Of one replica in a step: m = B/(b d)."""
    return recipe.batch / recipe.replicas / _microbatch(recipe, given)


def _sequence_bytes(model: ModelConfig, recipe: Recipe) -> float:
    """Activations of one sequence between two layers: 2 s h at 16 bits."""
    return POLICIES[recipe.policy].activation * model.sequence * model.width
