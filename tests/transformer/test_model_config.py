"""Model, plan and mesh are refused in one line before anything is compiled; shipped model files equal the
presets.
"""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from jaxsci.core.config import build
from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import PRESETS, ModelConfig, preset
from jaxsci.transformer.layout import Layout, layout
from jaxsci.transformer.parallel import ParallelConfig, check

GPT = ModelConfig(layers=8, width=32, heads=8, sequence=16, vocabulary=101)
FOLDER = Path(__file__).parents[2] / "conf" / "model"


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_model_file(name):
    assert build(ModelConfig, yaml.safe_load((FOLDER / f"{name}.yaml").read_text())) == preset(name)


def test_shapes_of_the_reference_study():
    def shape(name):
        return (preset(name).layers, preset(name).width, preset(name).heads)

    assert shape("gpt_22b") == (48, 6144, 48)
    assert shape("gpt_175b") == (96, 12288, 96)
    assert shape("gpt_1t") == (128, 25600, 160)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"heads": 5}, "heads: expected a divisor of width 32, got 5"),
        ({"kv_heads": 3}, "kv_heads: expected a divisor of heads 8, got 3"),
        ({"layers": 0}, "layers: expected a value above 0, got 0"),
        ({"dropout": 1.0}, "dropout: expected a value between 0.0 and 0.95"),
        ({"activation": "relu"}, "activation: expected one of gelu, swiglu"),
        ({"width": 24, "positions": "rotary"}, "heads: expected an even width / heads"),
    ],
)
def test_impossible_models(change, says):
    with pytest.raises(ConfigError, match=says.replace("(", r"\(")) as caught:
        replace(GPT, **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "plan, says",
    [
        ({"schedule": "1f1b", "virtual": 2}, "virtual"),
        ({"zero": 3, "remat": "none"}, "remat"),
        ({"zero": 2}, "zero: expected 1 or 3"),
        ({"microbatches": 0}, "microbatches"),
        ({"precision": "float8"}, "precision"),
    ],
)
def test_impossible_plans(plan, says):
    with pytest.raises(ConfigError, match=says):
        ParallelConfig(**plan)


@pytest.mark.parametrize(
    "mesh, plan, model, says",
    [
        (
            (1, 1, 1, 3),
            {},
            {},
            "mesh.tensor: 3 does not divide model.heads 8; the nearest smaller value is 2",
        ),
        ((1, 1, 1, 4), {}, {"kv_heads": 2}, "mesh.tensor: 4 does not divide model.kv_heads 2"),
        ((1, 1, 1, 8), {}, {"sequence": 12}, "mesh.tensor: 8 does not divide model.sequence 12"),
        ((1, 6, 1, 1), {}, {}, "mesh.fsdp: 6 does not divide model.width 32; use mesh.fsdp=2 mesh.data=3"),
        (
            (1, 1, 1, 1),
            {"microbatches": 3},
            {},
            "parallel.microbatches: 3 does not divide the global batch 16",
        ),
        ((4, 2, 1, 1), {"microbatches": 4}, {}, "a micro-batch of 4 sequences does not split"),
        ((1, 1, 1, 1), {"virtual": 2, "schedule": "gpipe"}, {}, "parallel.virtual: 2"),
        ((1, 1, 2, 1), {"zero": 3}, {}, "parallel.zero: 3 needs mesh.pipe=1"),
        ((1, 1, 4, 1), {"schedule": "gpipe", "microbatches": 2}, {}, "mesh.pipe: 4 does not divide"),
        ((1, 1, 16, 1), {"microbatches": 16}, {}, "exceed model.layers 8"),
    ],
)
def test_what_does_not_fit_together(mesh, plan, model, says):
    sizes: dict[str, int] = dict(zip(("data", "fsdp", "pipe", "tensor"), mesh, strict=True))  # type: ignore
    with pytest.raises(ConfigError, match=says) as caught:
        check(replace(GPT, **model), ParallelConfig(**plan), sizes, 16)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'gpt_175b'"):
        preset("gpt_175")


def test_the_trillion_parameter_mesh_splits_the_width_as_the_study_had_to():
    """25600 does not split over 6: the message proposes data 3 x fsdp 2."""
    mesh = {"data": 1, "fsdp": 6, "pipe": 64, "tensor": 8}
    plan = ParallelConfig(microbatches=1600)
    with pytest.raises(ConfigError, match="mesh.fsdp=2 mesh.data=3"):
        check(preset("gpt_1t"), plan, mesh, 9600)
    check(preset("gpt_1t"), plan, mesh | {"data": 3, "fsdp": 2}, 9600)


def test_layout_pads_layers_to_stages_and_vocabulary_to_tiles():
    model = replace(GPT, layers=7)
    assert layout(model, ParallelConfig(), {"pipe": 4, "tensor": 2}) == Layout(1, 8, 256)
    circular = ParallelConfig(schedule="gpipe", virtual=2)
    assert layout(model, circular, {"pipe": 2, "tensor": 1}) == Layout(2, 4, 128)
    assert asdict(layout(GPT, ParallelConfig(), {"pipe": 1, "tensor": 1})) == {
        "chunks": 1,
        "depth": 8,
        "vocabulary": 128,
    }
