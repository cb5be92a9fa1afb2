"""A default learned from other series: hyper-parameters of one segment model chosen by the task's own loss.

Likelihood is the wrong teacher here: it pays for many short segments wherever points depend on each other. So every
setting of a grid segments every series once, and a series gets the setting that does best on all the *others*. To be
less at the mercy of a few series, the choice is made factor by factor on the grid's marginal means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsci.core.config import require
from jaxsci.drift.hazard import RefractoryHazard
from jaxsci.drift.offline import likeliest_runs, segmentation
from jaxsci.drift.segments import Autoregressive, Independent

Setting = dict[str, float]


@dataclass(frozen=True)
class Grid:
    """Values of each hyper-parameter of AR(1) segments under a refractory hazard, for standardised series.

    - `mean_run`: points between changes, a priori; the penalty of a change is its logarithm.
    - `least`: shortest segment.
    - `lag_precision`, `intercept_precision`: prior precisions of the coefficients, relative to the noise.
    - `alpha`, `noise`: inverse-gamma prior of the noise variance: shape, and beta over alpha.
    - `degrees`: of the Student-t noise; 1e6 is Gaussian.
    """

    mean_run: tuple[float, ...] = (1e3, 1e4)
    least: tuple[float, ...] = (10.0,)
    lag_precision: tuple[float, ...] = (10.0, 30.0)
    intercept_precision: tuple[float, ...] = (0.3, 1.0)
    alpha: tuple[float, ...] = (0.5, 2.0)
    noise: tuple[float, ...] = (0.1, 0.3)
    degrees: tuple[float, ...] = (1e6,)

    def __post_init__(self):
        for name, values in vars(self).items():
            require(len(values) > 0, name, "one value or more", values)
            require(all(v > 0 for v in values), name, "values above 0", values)

    def settings(self) -> list[Setting]:
        names = list(vars(self))
        return [dict(zip(names, values, strict=True)) for values in product(*vars(self).values())]


# Chosen by `choose` on all sixteen series of the development half of the Turing Change Point Dataset.
DEFAULT = Setting(
    mean_run=1e4, least=10.0, lag_precision=10.0, intercept_precision=1.0, alpha=2.0, noise=0.3, degrees=1e6
)


def segment_all(
    values: Sequence[Float[np.ndarray, "_ _"]],
    known: Sequence[np.ndarray],
    settings: Sequence[Mapping[str, float]],
    *,
    bucket: int = 128,
) -> list[list[list[int]]]:
    """`[setting][series]`: the likeliest segmentation of each standardised series under each setting.

    Series are padded to multiples of `bucket` points, so that few lengths are compiled.
    """
    found: list[list[list[int]]] = [[[] for _ in values] for _ in settings]
    table = {name: jnp.asarray([s[name] for s in settings]) for name in settings[0]}
    shapes = [(-(-len(x) // bucket) * bucket, x.shape[1]) for x in values]
    for length, dimensions in sorted(set(shapes)):
        members = [i for i, shape in enumerate(shapes) if shape == (length, dimensions)]
        x = np.zeros((len(members), length, dimensions))
        there = np.zeros(x.shape, bool)
        for row, i in enumerate(members):
            x[row, : len(values[i])], there[row, : len(values[i])] = values[i], known[i]
        ended, alive = (np.asarray(a) for a in _run(table, jnp.asarray(x), jnp.asarray(there), dimensions))
        for row, i in enumerate(members):
            for s in range(len(settings)):
                found[s][i] = segmentation(ended[s, row], alive[s, row], len(values[i]))
    return found


def choose(settings: Sequence[Mapping[str, float]], score: Float[np.ndarray, "settings series"]) -> int:
    """The setting whose every factor has the best marginal mean of the score over the grid and the series."""
    mean = score.mean(axis=1)
    best = {}
    for name in settings[0]:
        levels = sorted({s[name] for s in settings})
        marginal = [mean[[s[name] == level for s in settings]].mean() for level in levels]
        best[name] = levels[int(np.argmax(marginal))]
    return next(i for i, s in enumerate(settings) if dict(s) == best)


def leave_one_out(settings: Sequence[Mapping[str, float]], score: Float[np.ndarray, "settings series"]) -> list[int]:
    """For each series the setting chosen without it."""
    return [choose(settings, np.delete(score, i, axis=1)) for i in range(score.shape[1])]


@partial(jax.jit, static_argnums=3)
def _run(table, x, known, dimensions):
    def one(setting, x, known):
        segment = Autoregressive(
            precision=setting["lag_precision"],
            intercept_precision=setting["intercept_precision"],
            alpha=setting["alpha"],
            beta=setting["alpha"] * setting["noise"],
            degrees=setting["degrees"],
        )
        hazard = RefractoryHazard(setting["mean_run"], setting["least"])
        return likeliest_runs(Independent(segment, dimensions), hazard, x, known)

    return jax.lax.map(lambda setting: jax.vmap(partial(one, setting))(x, known), table)
