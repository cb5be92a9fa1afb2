"""What a decoder-only transformer is: sizes and choices, checked, and the named models of the reference
study.
"""

from dataclasses import dataclass
from typing import Literal

from jaxsci.core.config import between, one_of, positive, require
from jaxsci.core.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of a pre-norm decoder.

    `kv_heads` None means one key and value head per query head; a smaller number groups the query heads.
    `feedforward` None means 4 x width. `bias` adds a bias to every linear map and to LayerNorm.
    `dropout` acts on the embedding and on both residual branches of a layer.
    """

    layers: int
    width: int
    heads: int
    sequence: int
    vocabulary: int = 256
    kv_heads: int | None = None
    feedforward: int | None = None
    positions: Literal["learned", "rotary"] = "learned"
    rotary_base: float = 10_000.0
    activation: Literal["gelu", "swiglu"] = "gelu"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    bias: bool = False
    tied: bool = True
    dropout: float = 0.0
    initial_deviation: float = 0.02

    def __post_init__(self):
        positive(self, "layers", "width", "heads", "sequence", "vocabulary", "kv_heads", "feedforward")
        positive(self, "rotary_base", "initial_deviation")
        one_of(self, "positions", ("learned", "rotary"))
        one_of(self, "activation", ("gelu", "swiglu"))
        one_of(self, "norm", ("layernorm", "rmsnorm"))
        between(self, "dropout", 0.0, 0.95)
        require(self.width % self.heads == 0, "heads", f"a divisor of width {self.width}", self.heads)
        require(self.heads % self.groups == 0, "kv_heads", f"a divisor of heads {self.heads}", self.kv_heads)
        rotary_odd = self.positions == "rotary" and self.head_size % 2 == 1
        require(not rotary_odd, "heads", "an even width / heads for rotary positions", self.heads)

    @property
    def groups(self) -> int:
        """Number of key and value heads."""
        return self.kv_heads or self.heads

    @property
    def queries(self) -> int:
        """Query heads that share one key and value head."""
        return self.heads // self.groups

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Width of the feed-forward layer."""
        return self.feedforward or 4 * self.width

    @property
    def gates(self) -> int:
        """Matrices that enter the feed-forward layer: 2 for SwiGLU (gate and value), else 1."""
        return 2 if self.activation == "swiglu" else 1


def _gpt(layers: int, width: int, heads: int) -> ModelConfig:
    return ModelConfig(layers, width, heads, sequence=2048, vocabulary=51200, bias=True)


# gpt_1_4b, gpt_22b, gpt_175b, gpt_1t: shapes of arXiv 2312.12705 with Megatron's head counts where the study's own
# are not confirmed (175 B: 96, 1 T: 160) and a width that 24 heads divide (1.4 B: 2112). llama_8b: arXiv 2407.21783,
# Table 3. gpt_1_3b: arXiv 2005.14165, Table 2.1, with 16 heads of 128. nanogpt_*: the two published settings of
# nanoGPT, on bytes instead of its 65 characters.
PRESETS: dict[str, ModelConfig] = {
    "gpt_1_3b": ModelConfig(24, 2048, 16, sequence=2048, vocabulary=50304, bias=False),
    "gpt_1_4b": _gpt(24, 2112, 24),
    "gpt_22b": _gpt(48, 6144, 48),
    "gpt_175b": _gpt(96, 12288, 96),
    "gpt_1t": _gpt(128, 25600, 160),
    "llama_8b": ModelConfig(
        32,
        4096,
        32,
        sequence=8192,
        vocabulary=128256,
        kv_heads=8,
        feedforward=14336,
        positions="rotary",
        rotary_base=500_000.0,
        activation="swiglu",
        norm="rmsnorm",
        tied=False,
    ),
    "nanogpt_cpu": ModelConfig(4, 128, 4, sequence=64),
    "nanogpt_gpu": ModelConfig(6, 384, 6, sequence=256, dropout=0.2),
}


def preset(name: str) -> ModelConfig:
    """The named model. Raises `ConfigError` with the nearest known name."""
    if name not in PRESETS:
        raise ConfigError(f"model: unknown preset '{name}'{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
