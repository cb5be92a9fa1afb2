"""A cheap model of the log that ranks candidates before any of them is run: a Gaussian process over the unit cube.

The cost of a configuration is its mean over blocks, each block centred and scaled first, so that hard instances do not
count more; its noise falls with the number of blocks. Labels and inactive parameters differ by a fixed distance. The
length scale is the most likely of a few.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve

from jaxsci.racing.ledger import Ledger
from jaxsci.racing.sampling import is_labels
from jaxsci.racing.space import Configuration, Space
from jaxsci.racing.targets.protocol import REJECTED

LENGTHS = (0.3, 0.6, 1.2, 2.4)
NOISES = (0.1, 0.5, 2.0)
MOST = 400
"""Configurations the model is fitted to; the latest are kept."""


def features(space: Space, configurations: Sequence[Configuration]) -> Float[np.ndarray, "n f"]:
    """Numbers on the unit scale, labels one-hot, and for each conditional parameter whether it is active."""
    unit, active = space.to_unit(configurations)
    found = []
    for i, parameter in enumerate(space.parameters):
        if is_labels(parameter):
            values = parameter.values  # type: ignore[attr-defined]
            places = np.minimum((unit[:, i] * len(values)).astype(int), len(values) - 1)
            found.append(np.eye(len(values))[places] * active[:, i : i + 1] / np.sqrt(2))
        else:
            found.append(unit[:, i : i + 1])
        if parameter.condition is not None:
            found.append(0.5 * active[:, i : i + 1])
    return np.concatenate(found, axis=1)


def ranking(space: Space, ledger: Ledger) -> Callable[[Sequence[Configuration]], np.ndarray] | None:
    """A function that predicts costs of configurations, least for the best; `None` with too little to learn from."""
    numbers, means, counts = observed(ledger)
    if len(numbers) < 8:
        return None
    numbers, means, counts = numbers[-MOST:], means[-MOST:], counts[-MOST:]
    x = features(space, [ledger.configurations[n] for n in numbers])
    y = (means - means.mean()) / max(float(means.std()), 1e-12)
    best = (-np.inf, None)
    for length in LENGTHS:
        kernel = _kernel(x, x, length)
        for noise in NOISES:
            fitted = _fit(kernel, y, noise / counts + 1e-6)
            if fitted is not None and fitted[0] > best[0]:
                best = (fitted[0], (length, fitted[1]))
    if best[1] is None:
        return None
    length, weights = best[1]
    return lambda configurations: _kernel(features(space, configurations), x, length) @ weights


def observed(ledger: Ledger) -> tuple[np.ndarray, Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Numbers of the configurations run, their mean standardised costs, and on how many blocks."""
    blocks: dict[int, dict[int, float]] = {}
    for (number, block), cost in ledger.costs.items():
        if cost != REJECTED:
            blocks.setdefault(block, {})[number] = cost
    scores: dict[int, list[float]] = {}
    pooled = [np.std(list(costs.values())) for costs in blocks.values() if len(costs) > 4]
    typical = float(np.median(pooled)) if pooled else 1.0
    # Later races hold good configurations only: what centres a block is its level among those seen on other blocks too.
    effect = _two_way(blocks, typical)
    for block, costs in blocks.items():
        for number, cost in costs.items():
            scores.setdefault(number, []).append((cost - effect[block]) / max(typical, 1e-12))
    numbers = np.array(sorted(scores), int)
    means = np.array([np.mean(scores[n]) for n in numbers])
    bound = np.quantile(means, 0.75) + 1.5 * (np.quantile(means, 0.75) - np.quantile(means, 0.25)) if len(means) else 0
    return numbers, np.minimum(means, bound), np.array([float(len(scores[n])) for n in numbers])


def _two_way(blocks: dict[int, dict[int, float]], typical: float) -> dict[int, float]:
    """Block effects of an additive model of configurations and blocks, by a few rounds of alternating means."""
    quality: dict[int, float] = {}
    effect = {block: float(np.median(list(costs.values()))) for block, costs in blocks.items()}
    for _ in range(5):
        sums: dict[int, list[float]] = {}
        for block, costs in blocks.items():
            for number, cost in costs.items():
                sums.setdefault(number, []).append(np.clip(cost - effect[block], -5 * typical, 5 * typical))
        quality = {number: float(np.sum(values)) / (len(values) + 0.5) for number, values in sums.items()}
        effect = {
            block: float(np.median([c - quality[n] for n, c in costs.items()])) for block, costs in blocks.items()
        }
    return effect


def _kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """Matern 5/2."""
    distance = np.sqrt(np.maximum(np.sum((a[:, None] - b[None]) ** 2, axis=-1), 0.0)) * np.sqrt(5.0) / length
    return (1.0 + distance + distance**2 / 3.0) * np.exp(-distance)


def _fit(kernel: np.ndarray, y: np.ndarray, noise: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Log likelihood and weights of the kernel's columns."""
    try:
        factor = cho_factor(kernel + np.diag(noise), lower=True)
    except np.linalg.LinAlgError:
        return None
    weights = cho_solve(factor, y)
    likelihood = -0.5 * float(y @ weights) - float(np.sum(np.log(np.diag(factor[0]))))
    return likelihood, weights
