"""How many parameters a model has and how many floating-point operations one training token costs.

A multiply-add counts as 2. Forward costs 1 unit, backward 2: model FLOPs are 3 x forward (MFU); recomputation
in the backward pass adds to what the hardware does (HFU) but not to what the model needs. Attention is
counted unmasked unless `causal`, which halves its two s x s products; every figure says which.

Formulas: Narayanan et al. 2104.04473, eq. 2 and 3; Korthikanti et al. 2205.05198, appendix A.
"""

from typing import Literal

from jaxsci.transformer.config import ModelConfig

Recompute = Literal["none", "selective", "full", "nested"]


def layer_parameters(c: ModelConfig) -> int:
    """Parameters of one layer, norms and biases included."""
    matrices = c.width * c.head_size * (2 * c.heads + 2 * c.groups) + (c.gates + 1) * c.width * c.hidden
    norm = c.width * (2 if c.norm == "layernorm" and c.bias else 1)
    biases = c.head_size * (c.heads + 2 * c.groups) + c.width + c.gates * c.hidden + c.width if c.bias else 0
    return matrices + 2 * norm + biases


def parameters(c: ModelConfig) -> int:
    """Parameters of the whole model, without padding of layers or vocabulary."""
    tables = c.vocabulary * c.width * (1 if c.tied else 2)
    positions = c.sequence * c.width if c.positions == "learned" else 0
    norm = c.width * (2 if c.norm == "layernorm" and c.bias else 1)
    return c.layers * layer_parameters(c) + tables + positions + norm


def layer_matmul_flops(c: ModelConfig) -> int:
    """Forward FLOPs of one layer's weight products, per token."""
    return 2 * (c.width * c.head_size * (2 * c.heads + 2 * c.groups) + (c.gates + 1) * c.width * c.hidden)


def attention_flops(c: ModelConfig, sequence: int | None = None, *, causal: bool = False) -> float:
    """Forward FLOPs of one layer's two s x s products, per token: 4 s h, half of it when `causal`."""
    return 4 * (sequence or c.sequence) * c.width * (0.5 if causal else 1.0)


def model_flops(c: ModelConfig, sequence: int | None = None, *, causal: bool = False) -> float:
    """FLOPs that training needs per token: 72 l h^2 (1 + s/(6h) + V/(12 l h)) for a GPT. Numerator of MFU."""
    layer = layer_matmul_flops(c) + attention_flops(c, sequence, causal=causal)
    return 3 * (c.layers * layer + 2 * c.width * c.vocabulary)


def hardware_flops(c: ModelConfig, recompute: Recompute, sequence: int | None = None, *, causal: bool = False) -> float:
    """FLOPs that training executes per token. Numerator of HFU.

    `full` recomputes one forward pass of the layers, `nested` two. `selective` follows the published formula,
    72 l h^2 (1 + s/(3h) + V/(12 l h)), which counts the attention core twice, forward and backward;
    recomputing its forward pass alone would make that s/(4.5h). These are conventions: a backward pass that
    drops a product nobody needs does less.
    """
    attention = c.layers * attention_flops(c, sequence, causal=causal)
    forward = c.layers * layer_matmul_flops(c) + attention
    extra = {"none": 0.0, "selective": 3 * attention, "full": forward, "nested": 2 * forward}
    return model_flops(c, sequence, causal=causal) + extra[recompute]
