"""A change lived through again: candidates refitted as labels come in, the guard choosing among them, all scored."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsci.drift.adaptation import CANDIDATES, Adapter
from jaxsci.drift.guard import Guard, prequential

REFITS = (4, 8, 16, 32, 64, 128)  # labelled jobs at which candidates are fitted anew
LEAST_TEST = 40  # jobs without which a median says little

_prequential = eqx.filter_jit(prequential)


class Frozen(NamedTuple):
    """Everything frozen at `labelled` jobs after the change; errors on the `tested` jobs that follow."""

    labelled: int
    tested: int
    error: dict[str, float]
    """Median relative error by candidate, and of the `guard`, which saw no later label either."""
    weights: dict[str, float]
    """The guard's weights, averaged over the tested jobs."""


class Replay(NamedTuple):
    """One change. Arrays run over the jobs from `change` to `last`."""

    change: int
    last: int
    frozen: tuple[Frozen, ...]
    error: dict[str, float]
    """Prequential median relative errors: refits at REFITS, the guard told every value after it has predicted it."""
    predictions: dict[str, Float[np.ndarray, " n"]]
    weights: Float[np.ndarray, "n c"]
    trusted: tuple[str, ...]
    """The guard's candidates, one a column of `weights`."""
    relative_errors: Float[np.ndarray, "m t"]
    """Of the trusted candidates on the jobs that `error` is over."""
    coverage: float
    """Share of the jobs inside the 90 % intervals of `adapt_moments`."""

    @property
    def regret(self) -> float:
        """How much worse the guard was than the best of its candidates in hindsight; negative if better."""
        best = min(self.error[name] for name in self.trusted)
        return self.error["guard"] / best - 1


def oracle_regrets(replays: Sequence[Replay], splits: int = 100, *, seed: int) -> Float[np.ndarray, "splits changes"]:
    """What chance alone does to a regret: that of the candidate that is best on a random half of the very jobs, on the
    other half.
    """
    rng = np.random.default_rng(seed)

    def one(errors: Float[np.ndarray, "m t"]) -> float:
        order = rng.permutation(len(errors))
        chosen = np.median(errors[order[::2]], axis=0).argmin()
        judged = np.median(errors[order[1::2]], axis=0)
        return float(judged[chosen] / judged.min() - 1)

    return np.array([[one(replay.relative_errors) for replay in replays] for _ in range(splits)])


def relative_error(predicted: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """|10^p - 10^y| / 10^y."""
    return np.abs(10 ** (predicted - y) - 1)


def replay_change(
    adapter: Adapter,
    guard: Guard,
    frozen_guard: Guard,
    change: int,
    last: int,
    earlier: list[int],
    *,
    trusted: tuple[str, ...] = CANDIDATES,
    labels: tuple[int, ...] = (16, 32, 64, 128),
    horizon: int = 300,
) -> Replay:
    """Replay the jobs from `change` to `last`; `trusted` are the candidates that the guards may use.

    `guard` predicts job by job, `frozen_guard` all jobs after the labelled ones.
    """
    jobs = adapter.jobs
    before = adapter.before(change, last)
    y, kind, count = jobs.performance[change:last], jobs.kind[change:last], last - change
    size = max(labels) + horizon
    refits = [m for m in REFITS if m < count]
    fits = {m: adapter.after(change, m, last, before["keep"], earlier) for m in refits}
    track = {name: np.full(count, np.nan) for name in (*CANDIDATES, "adapt_moments_deviation")}
    for name in track:
        for m, until in zip(refits, [*refits[1:], count], strict=True):
            track[name][m:until] = before[name][m:until] if name in before else fits[m][name][m:until]

    def run(guard: Guard, predictions: dict[str, np.ndarray], told: int) -> tuple[np.ndarray, np.ndarray]:
        """A guard over all jobs, shown the values of the first `told`; padded, so that it is compiled once."""
        padding = max(size - count, 0)
        stacked = np.stack([predictions[name] for name in trusted], axis=1)
        answer, weights = _prequential(
            guard,
            jnp.asarray(np.pad(stacked, ((0, padding), (0, 0)), constant_values=np.nan)),
            jnp.asarray(np.pad(y, (0, padding))),
            jnp.asarray(np.pad(kind, (0, padding))),
            jnp.asarray(np.arange(count + padding) < told),
            kinds=len(jobs.kinds),
        )
        return np.asarray(answer)[:count], np.asarray(weights)[:count]

    frozen = []
    for n in labels:
        end = min(n + horizon, count)
        if n not in fits or end - n < LEAST_TEST:
            continue
        mixed = {c: np.r_[track[c][:n], (before[c] if c in before else fits[n][c])[n:]] for c in CANDIDATES}
        mixed["guard"], weights = run(frozen_guard, mixed, n)
        error = {c: float(np.median(relative_error(p[n:end], y[n:end]))) for c, p in mixed.items()}
        frozen.append(Frozen(n, end - n, error, _mean_weights(trusted, weights[n:end])))

    start = min(16, count // 2)
    answer, weights = run(guard, track, count)
    predictions = {**{c: track[c] for c in CANDIDATES}, "guard": answer}
    error = {c: float(np.median(relative_error(p[start:], y[start:]))) for c, p in predictions.items()}
    errors = np.stack([relative_error(track[c][start:], y[start:]) for c in trusted], axis=1)
    inside = np.abs(track["adapt_moments"] - y)[start:] < 1.645 * track["adapt_moments_deviation"][start:]
    return Replay(change, last, tuple(frozen), error, predictions, weights, trusted, errors, float(inside.mean()))


def _mean_weights(names: tuple[str, ...], weights: np.ndarray) -> dict[str, float]:
    return dict(zip(names, weights.mean(axis=0).tolist(), strict=True))
