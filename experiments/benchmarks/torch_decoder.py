"""The same decoder in PyTorch: pre-norm, GELU, learned positions, tied head, fused attention."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.data import Windows


def trainer(torch: Any, config: Any, windows: Windows) -> tuple[Callable[[int], None], float]:
    """`train(steps)` on the batches of `windows`, and the seconds its first step took."""
    model: ModelConfig = config.model
    if (model.positions, model.activation, model.norm, model.tied) != ("learned", "gelu", "layernorm", True):
        raise ConfigError("model: the PyTorch peer is a GPT (learned positions, gelu, layernorm, tied)")
    torch.manual_seed(config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    network = _decoder(torch, model).to(device)
    loss_of = torch.compile(network) if config.torch_compile else network
    rule = config.optimizer
    decay = [p for p in network.parameters() if p.dim() > 1]
    spared = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": rule.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=rule.learning_rate, betas=(rule.b1, rule.b2), fused=True)
    sixteen = config.parallel.precision == "bfloat16"
    at = 0

    def train(steps: int) -> None:
        nonlocal at
        for _ in range(steps):
            batch = windows.batch(at, config.batch, config.parallel.microbatches)
            for inputs, targets in zip(batch.inputs, batch.targets, strict=True):
                x, y = (torch.from_numpy(np.ascontiguousarray(a)).long().to(device) for a in (inputs, targets))
                with torch.autocast(device, dtype=torch.bfloat16, enabled=sixteen):
                    loss = loss_of(x, y) / config.parallel.microbatches
                loss.backward()
            if rule.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(network.parameters(), rule.clip_norm)
            adam.step()
            adam.zero_grad(set_to_none=True)
            at += 1
        if device == "cuda":
            torch.cuda.synchronize()

    begin = time.perf_counter()
    train(1)
    compiled = time.perf_counter() - begin
    train(3)
    return train, compiled


def _decoder(torch: Any, model: ModelConfig) -> Any:
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(model.width, bias=model.bias)
            self.norm2 = nn.LayerNorm(model.width, bias=model.bias)
            self.qkv = nn.Linear(model.width, 3 * model.width, bias=model.bias)
            self.out = nn.Linear(model.width, model.width, bias=model.bias)
            self.up = nn.Linear(model.width, model.hidden, bias=model.bias)
            self.down = nn.Linear(model.hidden, model.width, bias=model.bias)

        def forward(self, x):
            b, s, h = x.shape
            q, k, v = (a.view(b, s, model.heads, -1).transpose(1, 2) for a in self.qkv(self.norm1(x)).split(h, dim=2))
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(b, s, h))
            return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(model.vocabulary, model.width)
            self.position = nn.Embedding(model.sequence, model.width)
            self.blocks = nn.ModuleList(Block() for _ in range(model.layers))
            self.norm = nn.LayerNorm(model.width, bias=model.bias)
            for p in self.parameters():
                if p.dim() > 1:
                    nn.init.normal_(p, std=model.initial_deviation)

        def forward(self, tokens, targets):
            x = self.embed(tokens) + self.position.weight
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.norm(x), self.embed.weight)
            return functional.cross_entropy(logits.view(-1, model.vocabulary).float(), targets.view(-1))

    return Decoder()
