"""Parameter and FLOPs formulas against counting, and against the published numbers they must reproduce."""

import jax
import numpy as np
import pytest
import transformer_cases as cases

from jaxsci.transformer.config import PRESETS, ModelConfig, preset
from jaxsci.transformer.counts import hardware_flops, model_flops, parameters
from jaxsci.transformer.layout import Layout
from jaxsci.transformer.model import init


def counted(model: ModelConfig) -> int:
    shapes = jax.eval_shape(lambda key: init(model, Layout(1, model.layers, model.vocabulary), key), jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", [*PRESETS, "test_gpt", "test_llama"])
def test_the_formula_counts_what_init_makes(name):
    model = {"test_gpt": cases.GPT, "test_llama": cases.LLAMA}.get(name) or preset(name)
    assert parameters(model) == counted(model)


@pytest.mark.parametrize(
    "name, billions, digits",
    [("gpt_22b", 22.07, 2), ("gpt_175b", 174.6, 1), ("gpt_1t", 1008.0, 1), ("llama_8b", 8.030261248, 9)],
)
def test_published_sizes(name, billions, digits):
    assert round(parameters(preset(name)) / 1e9, digits) == billions


@pytest.mark.parametrize("name", ["gpt_22b", "gpt_175b", "gpt_1t"])
def test_megatron_formulas(name):
    """Narayanan et al. 2104.04473, eq. 2; Korthikanti et al. 2205.05198, eq. 7 to 9, per token."""
    c = preset(name)
    layers, h, s, v = c.layers, c.width, c.sequence, c.vocabulary
    size = 12 * layers * h**2 * (1 + 13 / (12 * h) + (v + s) / (12 * layers * h))
    assert parameters(c) == pytest.approx(size + 2 * h, abs=1)  # eq. 2 leaves out the final norm

    def flops(attention, vocabulary):
        return 1 + s / (attention * h) + v / (vocabulary * layers * h)

    assert model_flops(c) == pytest.approx(72 * layers * h**2 * flops(6, 12))
    assert hardware_flops(c, "selective") == pytest.approx(72 * layers * h**2 * flops(3, 12))
    assert hardware_flops(c, "full") == pytest.approx(96 * layers * h**2 * flops(6, 16))
    assert hardware_flops(c, "none") == model_flops(c)


def test_causal_counting_halves_the_attention_term_only():
    c = preset("gpt_22b")
    attention = 3 * c.layers * 4 * c.sequence * c.width
    assert model_flops(c) - model_flops(c, causal=True) == pytest.approx(attention / 2)
    assert model_flops(c, 2 * c.sequence, causal=True) == pytest.approx(model_flops(c))


def test_iteration_times_of_2205_05198_give_its_utilisation():
    """Table 5, selective recomputation: seconds per iteration, GPUs, batch -> published MFU and HFU in
    percent.
    """
    rows = [
        (ModelConfig(48, 6144, 64, sequence=2048, vocabulary=51200, bias=True), 4, 8, 1.10, 41.5, 43.7),
        (preset("gpt_175b"), 64, 64, 13.75, 51.4, 52.8),
        (
            ModelConfig(105, 20480, 128, sequence=2048, vocabulary=51200, bias=True),
            280,
            280,
            37.83,
            56.0,
            57.0,
        ),
        (preset("gpt_1t"), 512, 512, 71.49, 56.3, 57.0),
    ]
    for model, batch, gpus, seconds, mfu, hfu in rows:
        rate = batch * model.sequence / (gpus * seconds * 312e12)
        # The table prints three digits of the time; the specification asks for 0.2 points.
        assert 100 * rate * model_flops(model) == pytest.approx(mfu, abs=0.2)
        assert 100 * rate * hardware_flops(model, "selective") == pytest.approx(hfu, abs=0.2)
