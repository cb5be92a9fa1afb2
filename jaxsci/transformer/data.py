"""Which tokens make the batch of a global step: a pure function of (seed, step), so there is nothing to save.

The text is cut into windows of one sequence. Every epoch visits all of them once, in an order given by a hash
permutation, and shifts the cuts by a hash of the epoch. The same step gives the same batch on every mesh,
after every resumption and with any number of processes, each of which reads only the rows its own devices
hold.
"""

from dataclasses import dataclass

import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int

from jaxsci.core.errors import DataError
from jaxsci.transformer.pipeline import Batch

_M = np.uint64


def scramble(x: np.ndarray | int) -> np.ndarray:
    """A 64-bit hash (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, _M) + _M(0x9E3779B97F4A7C15)
        x = (x ^ (x >> _M(30))) * _M(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> _M(27))) * _M(0x94D049BB133111EB)
        return x ^ (x >> _M(31))


def permute(i: Int[np.ndarray, " k"], n: int, seed: int) -> Int[np.ndarray, " k"]:
    """Where a pseudo-random permutation of 0 ... n - 1 sends each i, computed for these i alone.

    A Feistel network of four rounds permutes the next larger power of four; values beyond n walk on until
    they fall below it (Black and Rogaway 2002).
    """
    half = _M(max(1, (int(n - 1).bit_length() + 1) // 2))
    mask = _M((1 << int(half)) - 1)
    x = np.array(i, _M)
    outside = np.ones(x.shape, bool)
    while outside.any():
        left, right = x[outside] >> half, x[outside] & mask
        for turn in range(4):
            left, right = right, left ^ (scramble(right ^ scramble(seed * 4 + turn)) & mask)
        x[outside] = (left << half) | right
        outside = x >= n
    return x.astype(np.int64)


@dataclass(frozen=True)
class Windows:
    """Training sequences of a token array, `sequence` + 1 tokens each, numbered without end."""

    tokens: np.ndarray
    sequence: int
    seed: int = 0

    def __post_init__(self):
        if len(self.tokens) < self.sequence + 1:
            raise DataError(
                f"data: {len(self.tokens)} tokens, a sequence of {self.sequence} needs {self.sequence + 1}; "
                "give a longer text or a smaller model.sequence"
            )

    @property
    def count(self) -> int:
        """Windows of an epoch: one fewer than fit, where two or more fit, to leave room for the shift."""
        return max(1, (len(self.tokens) - 1) // self.sequence - 1)

    def starts(self, numbers: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        """First token of each numbered sequence; numbers run through epoch after epoch."""
        epochs, places = np.divmod(np.asarray(numbers, np.int64), self.count)
        room = min(self.sequence - 1, len(self.tokens) - 1 - self.count * self.sequence) + 1
        starts = np.empty_like(places)
        for epoch in np.unique(epochs):
            now, draw = epochs == epoch, int(scramble(scramble(self.seed) ^ _M(epoch)))
            starts[now] = permute(places[now], self.count, draw >> 3) * self.sequence + draw % room
        return starts

    def rows(self, numbers: Int[np.ndarray, " k"]) -> Int[np.ndarray, "k sequence_and_one"]:
        return self.tokens[self.starts(numbers)[:, None] + np.arange(self.sequence + 1)].astype(np.int32)

    def batch(self, step: int, size: int, microbatches: int, sharding: NamedSharding | None = None) -> Batch:
        """Batch (micro-batch, batch, sequence) of a global step; with a sharding, this process's part."""
        shape = (microbatches, size // microbatches, self.sequence)
        local = [np.arange(n) for n in shape[:2]] if sharding is None else local_indices(sharding, shape)[:2]
        numbers = step * size + local[0][:, None] * shape[1] + local[1]
        rows = self.rows(numbers.ravel()).reshape(*numbers.shape, self.sequence + 1)
        return Batch(rows[..., :-1], rows[..., 1:])


def validation_batch(tokens: np.ndarray, sequence: int, size: int, microbatches: int) -> Batch:
    """`size` sequences spread evenly over a token array, the same at every evaluation."""
    starts = np.linspace(0, len(tokens) - sequence - 1, size).astype(np.int64)
    rows = tokens[starts[:, None] + np.arange(sequence + 1)].astype(np.int32)
    rows = rows.reshape(microbatches, -1, sequence + 1)
    return Batch(rows[..., :-1], rows[..., 1:])


def local_indices(sharding: NamedSharding, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Indices, per dimension, that this process's devices hold."""
    parts = sharding.addressable_devices_indices_map(shape).values()
    return [
        np.unique(np.concatenate([np.arange(n)[part[d]] for part in parts if part is not None]))
        for d, n in enumerate(shape)
    ]
