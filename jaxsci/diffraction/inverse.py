"""Which dislocation, exactly: every (b, t) of the lattice is fitted to the counts through the simulator, and ranked.

The orientation is known. For each hypothesis the facets' distances, the line's place and a cubic phase for each
reflection are found by Adam on the Poisson deviance, from several starts at once. Hypotheses that fit equally well are
reported as a tie; another reflection, chosen for the contrast it gives between them, resolves it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from jaxsci.core.config import positive
from jaxsci.diffraction import detector, scattering
from jaxsci.diffraction.crystal import Body, family_normals, grid_points, support_on_grid
from jaxsci.diffraction.dislocation import Line, displacement
from jaxsci.diffraction.generator import Prior
from jaxsci.diffraction.lattice import Centring, Reflection, edges, screws
from jaxsci.diffraction.trigonometry import unit_phasor

MONOMIALS = [power for power in product(range(4), repeat=3) if sum(power) in (2, 3)]  # x^i y^j z^k


class Hypothesis(NamedTuple):
    """`kind` is none, edge or screw; `burgers`, `direction` and `normal` in the cubic axes, units of a."""

    kind: str
    burgers: tuple[float, float, float]
    direction: tuple[float, float, float]
    normal: tuple[float, float, float]

    def visibility(self, reflection: Reflection) -> float:
        """|g.b|."""
        return abs(float(np.dot(self.burgers, reflection)))

    def shows(self, reflection: Reflection) -> bool:
        """Whether the reflection tells it from a perfect crystal: a screw by g.b, an edge by its residual contrast."""
        return self.kind == "edge" or self.visibility(reflection) > 0.5


class Shape(NamedTuple):
    """What is fitted beside the hypothesis. Lengths in voxels."""

    distances: Float[Array, "14"]
    core: Float[Array, "3"]
    """A point of the line, from the body's centre of mass."""
    bending: Float[Array, "reflections 16"]
    """Of the phase: radians, times each of `MONOMIALS` of the coordinates over the largest radius."""


class Fit(NamedTuple):
    """One hypothesis at its best start."""

    hypothesis: Hypothesis
    deviance: float
    """Mean over voxels and reflections; about 1 where counts are many, less where most voxels are empty."""
    shape: Shape


@dataclass(frozen=True)
class Ranking:
    """Fits, the best first, and which of them cannot be told from the best."""

    fits: tuple[Fit, ...]
    tied: tuple[Fit, ...]

    @property
    def resolved(self) -> bool:
        """Whether one hypothesis alone is best."""
        return len(self.tied) == 1


@dataclass(frozen=True)
class FitConfig:
    """`starts` of every candidate are fitted by `screening` steps of Adam, then the best `kept` of the candidates, from
    where their best start came to, by `steps`. The rate falls from `rate` to 0 by a cosine each time.

    `tie`: relative excess of the deviance over the best below which fits are tied.
    """

    screening: int = 100
    kept: int = 6
    steps: int = 200
    starts: int = 8
    rate: float = 0.15
    tie: float = 0.2

    def __post_init__(self) -> None:
        positive(self, "screening", "kept", "steps", "starts", "rate", "tie")


def hypotheses(centring: Centring) -> list[Hypothesis]:
    """The perfect crystal, every screw, every edge."""
    found = [Hypothesis("none", (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))]
    for kind, systems in (("screw", screws(centring)), ("edge", edges(centring))):
        found += [Hypothesis(kind, tuple(b), tuple(t), tuple(n)) for b, t, n in zip(*systems, strict=True)]
    return found


def expected_of(
    vectors: Float[Array, "3 3"], shape: Shape, prior: Prior, reflections: Sequence[Reflection]
) -> Float[Array, "reflections n n n"]:
    """Intensities (unnormalised) of a hypothesis, rows b, t, n of `vectors`, in the cubic axes."""
    axis = scattering.fine_axis(prior.span, prior.oversampling)
    grid = grid_points(axis)
    points = grid[:3].T
    normals = jnp.asarray(family_normals((1, 1, 1), (1, 0, 0)), jnp.float32)
    density = support_on_grid(Body(normals, shape.distances), grid, softness=prior.softness)
    centre = density @ points / jnp.sum(density)
    line = Line(vectors[0], vectors[1], vectors[2], shape.core)
    u = displacement(line, jnp.asarray(points) - centre, poisson=prior.matter.poisson, core_radius=prior.core_radius)
    bends = np.stack([np.prod((points / prior.radius[1]) ** np.array(powers), axis=1) for powers in MONOMIALS])
    found = []
    for number, reflection in enumerate(reflections):
        phase = 2 * jnp.pi * (u @ jnp.asarray(reflection, jnp.float32)) + shape.bending[number] @ bends
        field = (density * unit_phasor(phase)).reshape((len(axis),) * 3)
        found.append(scattering.intensity(scattering.far_field(field, prior.n, prior.oversampling)))
    return jnp.stack(found)


def mean_deviance(
    intensities: Float[Array, "reflections n n n"], counts: Float[Array, "reflections n n n"], background: float
) -> Float[Array, ""]:
    """Of the counts from intensities scaled to the observed total."""
    scale = jnp.sum(counts, (1, 2, 3), keepdims=True) / jnp.sum(intensities, (1, 2, 3), keepdims=True)
    return jnp.mean(detector.poisson_deviance(scale * intensities + background, counts))


def rank(
    counts: Float[Array, "reflections n n n"],
    reflections: Sequence[Reflection],
    candidates: Sequence[Hypothesis],
    prior: Prior,
    config: FitConfig,
    *,
    key: Key[Array, ""],
) -> Ranking:
    """Fit the candidates to the patterns of one crystal in its cubic axes, and order them by deviance.

    Those that the screening leaves behind keep its deviance and come after the others. What none of the reflections
    shows is one model, the perfect crystal's: it is fitted once, for all such candidates.
    """
    starts = _starts(prior, len(reflections), config.starts, key=key)
    models = _models(candidates, reflections)
    solve = partial(_solve, counts=jnp.asarray(counts), prior=prior, reflections=tuple(reflections), rate=config.rate)
    alike = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(models), *leaf.shape)), starts)
    screened = _ordered(models, *solve(_vectors(models), alike, steps=config.screening))
    ahead, behind = screened[: config.kept], screened[config.kept :]
    begun = jax.tree.map(lambda *leaves: jnp.stack(leaves)[:, None], *(fits[0].shape for fits in ahead))
    groups = [[fit.hypothesis for fit in fits] for fits in ahead]
    refined = _ordered(groups, *solve(_vectors(groups), begun, steps=config.steps))
    fits = [fit for group in (*refined, *behind) for fit in group]
    compared = [fit for group in refined for fit in group]
    tied = [fit for fit in compared if fit.deviance <= (1 + config.tie) * fits[0].deviance]
    return Ranking(tuple(fits), tuple(tied))


def _models(candidates: Sequence[Hypothesis], reflections: Sequence[Reflection]) -> list[list[Hypothesis]]:
    """The candidates in groups of one model: those that no reflection shows, and every other by itself."""
    shown = [c for c in candidates if any(c.shows(g) for g in reflections)]
    alike = [c for c in candidates if c not in shown]
    return [group for group in (alike, *([c] for c in shown)) if group]


def _vectors(models: Sequence[Sequence[Hypothesis]]) -> Float[Array, "models 3 3"]:
    """Rows b, t, n of each group's first."""
    return jnp.asarray([group[0][1:] for group in models], jnp.float32)


def _ordered(
    models: Sequence[Sequence[Hypothesis]], shapes: Shape, deviances: Float[Array, "models starts"]
) -> list[list[Fit]]:
    """Each group at its best start, the best group first."""
    found = np.where(np.isfinite(deviances), deviances, np.inf)
    groups = []
    for row, group in enumerate(models):
        start = int(found[row].argmin())
        shape = jax.tree.map(lambda leaf, at=(row, start): leaf[at], shapes)
        groups.append([Fit(hypothesis, float(found[row, start]), shape) for hypothesis in group])
    return sorted(groups, key=lambda fits: fits[0].deviance)


def next_reflection(ranking: Ranking, options: Sequence[Reflection]) -> Reflection:
    """The reflection of the largest information on which of the tied hypotheses is true; the first such.

    Entropy (nats) of what it would show, all being equally likely: those that it shows it also tells from each other,
    as their lines differ; those that it does not show look all the same.
    """

    def information(reflection: Reflection) -> float:
        hidden = sum(not fit.hypothesis.shows(reflection) for fit in ranking.tied)
        total = len(ranking.tied)
        return float(np.log(total) - (hidden * np.log(hidden) / total if hidden else 0.0))

    return max(options, key=lambda reflection: round(information(reflection), 9))


def _starts(prior: Prior, reflections: int, count: int, *, key: Key[Array, ""]) -> Shape:
    size, place = jax.random.split(key)
    low, high = prior.radius
    radius = jax.random.uniform(size, (count, 1), minval=low, maxval=high)
    relative = jnp.concatenate([jnp.ones(8), jnp.full(6, sum(prior.ratio) / 2)])
    core = radius * jax.random.uniform(place, (count, 3), minval=-prior.core, maxval=prior.core)
    return Shape(radius * relative, core, jnp.zeros((count, reflections, len(MONOMIALS))))


@partial(jax.jit, static_argnames=("prior", "reflections", "steps", "rate"))
def _solve(
    vectors: Float[Array, "candidates 3 3"],
    starts: Shape,
    counts: Float[Array, "reflections n n n"],
    *,
    prior: Prior,
    reflections: tuple[Reflection, ...],
    steps: int,
    rate: float,
) -> tuple[Shape, Float[Array, "candidates starts"]]:
    """Shapes and deviances after `steps`, leaves of `starts` being (candidates, starts, ...)."""
    fit = partial(_fit, counts=counts, prior=prior, reflections=reflections, steps=steps, rate=rate)
    # One candidate after another: its starts together still fit into the cache.
    return jax.lax.map(lambda one: jax.vmap(fit, (None, 0))(*one), (vectors, starts))


def _fit(
    vectors: Array, start: Shape, *, counts: Array, prior: Prior, reflections: tuple, steps: int, rate: float
) -> tuple[Shape, Array]:
    turn = 0.4  # a unit of each unknown is then about as large a change
    # A line that has left the crystal is none: it would only help to bend the lattice a little.
    reach = (prior.core + prior.jitter) * prior.radius[1]

    def shape_of(units: Shape) -> Shape:
        return Shape(units.distances, reach * jnp.tanh(units.core / reach), turn * units.bending)

    def loss(units: Shape) -> Array:
        # The root tames the first steps, when the deviance is thousands of times its final value.
        return jnp.sqrt(
            mean_deviance(expected_of(vectors, shape_of(units), prior, reflections), counts, prior.background)
        )

    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def update(state: tuple, _: None) -> tuple[tuple, None]:
        units, memory = state
        change, memory = optimizer.update(jax.grad(loss)(units), memory)
        return (optax.apply_updates(units, change), memory), None

    inside = jnp.clip(start.core / reach, -0.99, 0.99)
    units = Shape(start.distances, reach * jnp.arctanh(inside), start.bending / turn)
    (units, _), _ = jax.lax.scan(update, (units, optimizer.init(units)), None, length=steps)
    return shape_of(units), jnp.square(loss(units))
