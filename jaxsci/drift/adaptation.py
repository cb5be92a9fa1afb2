"""What can be predicted after a change with few labelled jobs: nine candidates, from doing nothing to starting anew.

    keep           the regressor trained before the change
    keep_median    the median of each kind before the change
    class_median   M0, the median of each kind's new jobs
    levels         weighted median of all jobs of a kind, weights P(no change of this kind since), from its own detector
    recall         levels remembered from earlier regimes, or the new median, by probability
    adapt_moments  regressor on old jobs moved by M1, and the new ones
    adapt_coral    regressor on old jobs moved by M2, and the new ones
    adapt_affine   M3, an affine law from the old regressor's predictions
    retrain        regressor on the new jobs only

Nothing uses a value, or a scale of features, from after the labelled jobs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxsci.core.config import between, positive
from jaxsci.drift import matching
from jaxsci.drift.changepoint import Bocpd, detect
from jaxsci.drift.hazard import ConstantHazard
from jaxsci.drift.performance import GaussianProcess, fit_gaussian_process, fit_network, fit_ridge
from jaxsci.drift.performance.gaussian_process import GRID
from jaxsci.drift.regimes import recall, remember
from jaxsci.drift.rounds import standardise_by_start
from jaxsci.drift.segments import Level
from jaxsci.drift.tokio import Jobs

CANDIDATES = (
    "keep",
    "keep_median",
    "class_median",
    "levels",
    "recall",
    "adapt_moments",
    "adapt_coral",
    "adapt_affine",
    "retrain",
)
CLIP = 6.0  # standardised features beyond this tell no more
MEMORY = 15  # past changes that `recall` can tell apart
LATEST = 256  # capacity of the detectors of single kinds, and so the jobs `levels` looks back on


@dataclass(frozen=True)
class AdaptationConfig:
    """`window`: old jobs a regressor is trained on, at most. `warm_up`: jobs of a kind its detector is scaled by."""

    regressor: Literal["gaussian_process", "ridge", "network"] = "gaussian_process"
    window: int = 600
    warm_up: int = 30
    mean_run: float = 1000.0

    def __post_init__(self):
        positive(self, "window", "warm_up")
        between(self, "mean_run", 2, 1e9)


class Adapter:
    """All candidates for the jobs of one machine. Fits are padded to few shapes, so each program compiles once."""

    def __init__(self, jobs: Jobs, config: AdaptationConfig, *, largest: int, seed: int = 0):
        self.jobs, self.config, self.largest = jobs, config, largest
        self._kinds = len(jobs.kinds)
        self._log_mass = np.asarray(_run_lengths(jobs, config))
        self._kernels: dict[int, Float[Array, "g 2"]] = {}
        self._fit = eqx.filter_jit(_fitter(config, seed))
        self._apply = eqx.filter_jit(lambda model, x: model(x))
        self._coral = jax.jit(matching.coral)
        self._affine = jax.jit(matching.affine_law)
        self._median = jax.jit(partial(matching.class_median, kinds=self._kinds))
        self._one_median = jax.jit(lambda y, w: matching.class_median(y, jnp.zeros(len(y), int), w, kinds=1)[0][0])
        self._since = jax.jit(partial(matching.since_change, length=LATEST))
        self._match = jax.jit(partial(_match, kinds=self._kinds))
        self._remember = jax.jit(partial(remember, kinds=self._kinds, regimes=MEMORY + 1))
        self._recall = jax.jit(recall)

    def before(self, change: int, last: int) -> dict[str, Float[np.ndarray, " n"]]:
        """Candidates that use nothing new, for jobs `change` to `last`."""
        old = self._old(change)
        x = self._design(change)
        model = self._regressor(x[old], self.jobs.performance[old], self.config.window, jnp.asarray(GRID))
        if isinstance(model, GaussianProcess):
            self._kernels[change] = jnp.stack([model.length, model.noise])[None]
        mean, deviation = self._predict(model, x[change:last])
        medians = self._medians(old)
        return {"keep": mean, "keep_deviation": deviation, "keep_median": medians[self.jobs.kind[change:last]]}

    def after(
        self, change: int, labelled: int, last: int, keep: Float[np.ndarray, " n"], earlier: list[int]
    ) -> dict[str, Float[np.ndarray, " n"]]:
        """Candidates that use the values of the first `labelled` jobs after `change`, for jobs `change` to `last`.

        `keep` is that candidate's prediction of the same jobs; `earlier` are the changes found before this one.
        """
        old, new, jobs = self._old(change), slice(change, change + labelled), self.jobs
        x, kind = self._design(change + labelled), jobs.kind
        at, kind_at = x[change:last], kind[change:last]
        y_old, y_new = jobs.performance[old], jobs.performance[new]
        size = self.config.window + self.largest
        moved = np.asarray(self._match(*self._labels(old), *self._labels(new)))[: len(y_old)]
        coloured = self._recolour(np.c_[x[old], y_old], np.c_[x[new], y_new])
        pairs, weight = _padded(np.c_[keep[:labelled], y_new], self.largest)
        law = jax.device_get(self._affine(pairs[:, 0], pairs[:, 1], weight))
        both = np.concatenate([x[old], x[new]])
        # The kernel is that of the old jobs: choosing it anew for every few labels costs ten times as much.
        kernel = self._kernels.get(change, jnp.asarray(GRID))
        moved_model = self._regressor(both, np.r_[moved, y_new], size, kernel)
        moved_mean, moved_deviation = self._predict(moved_model, at)
        recoloured = np.r_[coloured[:, :-1], x[new]], np.r_[coloured[:, -1], y_new]
        coral_mean, _ = self._predict(self._regressor(*recoloured, size, kernel), at)
        retrained, _ = self._predict(self._regressor(x[new], y_new, self.largest, jnp.asarray(GRID)), at)
        return {
            "class_median": self._medians(new)[kind_at],
            "levels": self._levels(change + labelled)[kind_at],
            "recall": self._recalled(change, labelled, earlier)[kind_at],
            "adapt_moments": moved_mean,
            "adapt_moments_deviation": moved_deviation,
            "adapt_coral": coral_mean,
            "adapt_affine": law.coefficients[0] + law.coefficients[1] * keep,
            "retrain": retrained,
        }

    def _old(self, change: int) -> slice:
        return slice(max(0, change - self.config.window), change)

    def _design(self, known: int) -> Float[np.ndarray, "n f"]:
        """Features and indicators of kinds, standardised by the jobs before `known`."""
        raw = np.concatenate([self.jobs.features, np.eye(self._kinds)[self.jobs.kind]], axis=1)
        centre, spread = raw[:known].mean(axis=0), raw[:known].std(axis=0)
        return np.clip((raw - centre) / np.where(spread > 1e-9, spread, 1.0), -CLIP, CLIP)

    def _medians(self, span: slice) -> Float[np.ndarray, " k"]:
        y, kind, weight = self._labels(span)
        return np.array(self._median(y, kind, weight)[0])

    def _levels(self, known: int) -> Float[np.ndarray, " k"]:
        """Weighted median of each kind's last jobs, weights from the run-length posterior after the last of them."""
        levels = self._medians(slice(0, known))
        for k in range(self._kinds):
            values = self.jobs.performance[:known][self.jobs.kind[:known] == k]
            if len(values):
                latest, since = values[-LATEST:], np.asarray(self._since(self._log_mass[k, len(values) - 1]))
                padded, weight = np.zeros(LATEST), np.zeros(LATEST)
                padded[-len(latest) :] = latest
                weight[-len(latest) :] = since[-len(latest) :] + 1e-9
                levels[k] = self._one_median(padded, weight)
        return levels

    def _recalled(self, change: int, labelled: int, earlier: list[int]) -> Float[np.ndarray, " k"]:
        """Levels by the library of regimes between the `earlier` changes, of which the latest MEMORY are kept."""
        y, kind, weight = self._labels(slice(0, change))
        earlier = earlier[-MEMORY:]
        regime = np.searchsorted(np.asarray(earlier, int), np.arange(len(y)), side="right")
        past = self._remember(y, kind, weight, np.minimum(regime, len(earlier)))
        new = self._labels(slice(change, change + labelled))
        return np.asarray(self._recall(past, *new).level)

    def _labels(self, span: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values and kinds of a span of jobs, padded; and weights that are 0 on the padding."""
        pair = np.c_[self.jobs.performance[span], self.jobs.kind[span]]
        rows, weight = _padded(pair, _rounded(len(pair)))
        return rows[:, 0], rows[:, 1].astype(int), weight

    def _recolour(self, old: Float[np.ndarray, "n d"], new: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n d"]:
        a, wa = _padded(old, self.config.window)
        b, wb = _padded(new, self.largest)
        return np.asarray(self._coral(a, wa, b, wb))[: len(old)]

    def _regressor(self, x: Float[np.ndarray, "n f"], y: Float[np.ndarray, " n"], size: int, grid) -> PyTree:
        padded, weight = _padded(np.c_[x, y], size)
        return self._fit(padded[:, :-1], padded[:, -1], weight, grid)

    def _predict(
        self, model: PyTree, at: Float[np.ndarray, "m f"]
    ) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        places, _ = _padded(at, _rounded(len(at)))
        mean, deviation = self._apply(model, places)
        return np.asarray(mean)[: len(at)], np.asarray(deviation)[: len(at)]


def _fitter(config: AdaptationConfig, seed: int) -> Callable[..., PyTree]:
    """The chosen regressor as `fit(x, y, weight, grid)`; the grid is for the kernel, which only one of them has."""
    if config.regressor == "gaussian_process":
        return lambda x, y, weight, grid: fit_gaussian_process(x, y, weight, grid=grid)
    if config.regressor == "ridge":
        return lambda x, y, weight, grid: fit_ridge(x, y, weight)
    return lambda x, y, weight, grid: fit_network(x, y, weight, key=jax.random.key(seed))


def _match(y_old, kind_old, weight_old, y_new, kind_new, weight_new, *, kinds: int) -> Float[Array, " n"]:
    old = matching.class_moments(y_old, kind_old, weight_old, kinds=kinds)
    new = matching.class_moments(y_new, kind_new, weight_new, kinds=kinds)
    return matching.match_moments(y_old, kind_old, old, new)


def _padded(
    rows: Float[np.ndarray, "n d"], size: int
) -> tuple[Float[np.ndarray, "size d"], Float[np.ndarray, " size"]]:
    """Rows of zeros up to `size`, and weights of 1 for the real ones; in NumPy, as JAX would compile every shape."""
    size = max(size, len(rows))
    weight = np.zeros(size)
    weight[: len(rows)] = 1
    return np.concatenate([rows, np.zeros((size - len(rows), rows.shape[1]))]), weight


def _rounded(count: int) -> int:
    """The next power of two, at least 128: few shapes, few compilations."""
    return max(128, 1 << (count - 1).bit_length())


def _run_lengths(jobs: Jobs, config: AdaptationConfig) -> Float[Array, "k t r"]:
    """log P(r | values so far) of every kind after each of its jobs."""
    longest = max(int((jobs.kind == k).sum()) for k in range(len(jobs.kinds)))
    values = np.zeros((len(jobs.kinds), longest, 1))
    known = np.zeros(values.shape, bool)
    for k in range(len(jobs.kinds)):
        mine = jobs.performance[jobs.kind == k]
        known[k, : len(mine)] = True
        values[k, : len(mine), 0] = standardise_by_start(mine, np.ones(len(mine), bool), config.warm_up)
    # A level with a vague prior, noise about twice that of the warm-up.
    segment = Level(intercept_precision=0.05, alpha=2.0, beta=4.0)
    detector = Bocpd(segment, ConstantHazard(config.mean_run), capacity=LATEST)

    def run(x, known):
        return detect(detector, x, known, emit=lambda info: info.log_mass)[1]

    return jax.jit(jax.vmap(run))(jnp.asarray(values), jnp.asarray(known))
