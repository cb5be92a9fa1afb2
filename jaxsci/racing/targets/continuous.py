"""Target: differential evolution or a particle swarm on shifted, reflected test functions; cost is log10 of the error.

An instance is a function with a dimension, such as `rastrigin_10`; its shift and its mirror come from the seed, so a
block is a new draw of the problem. DE: Storn and Price 1997, rand/1/bin and best/1/bin. PSO: Clerc and Kennedy 2002.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.racing.expressions import parse
from jaxsci.racing.space import Categorical, Configuration, Real, Space
from jaxsci.racing.targets import vectorised
from jaxsci.racing.targets.protocol import Job, Outcome

POPULATION = 32
RANGE = 5.0
"""Half the side of the search cube."""

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "sphere": lambda z: jnp.sum(z**2),
    "ellipsoid": lambda z: jnp.sum(10.0 ** (4.0 * jnp.arange(z.shape[0]) / max(z.shape[0] - 1, 1)) * z**2),
    "rosenbrock": lambda z: jnp.sum(100.0 * (z[1:] + 1 - (z[:-1] + 1) ** 2) ** 2 + z[:-1] ** 2),
    "rastrigin": lambda z: jnp.sum(z**2 - 10.0 * jnp.cos(2 * jnp.pi * z) + 10.0),
    "ackley": lambda z: (
        20.0 - 20.0 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean(z**2))) + jnp.e - jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * z)))
    ),
    "griewank": lambda z: (
        1.0 + jnp.sum(z**2) / 40.0 - jnp.prod(jnp.cos(z * 10 / jnp.sqrt(jnp.arange(1.0, z.shape[0] + 1))))
    ),
}
"""Each has its minimum 0 at the origin."""


class SwarmParameters(NamedTuple):
    """Of one run: `weight`, `crossover` and `to_best` of DE; `inertia`, `own` and `social` of PSO."""

    weight: Array
    crossover: Array
    to_best: Array
    inertia: Array
    own: Array
    social: Array


def continuous_space() -> Space:
    """Seven parameters of the two algorithms."""
    de, pso = parse('algorithm == "de"'), parse('algorithm == "pso"')
    return Space(
        (
            Categorical("algorithm", values=("de", "pso")),
            Real("weight", condition=de, low=0.1, high=1.5),
            Real("crossover", condition=de, low=0.0, high=1.0),
            Categorical("base", condition=de, values=("rand", "best")),
            Real("inertia", condition=pso, low=0.0, high=1.0),
            Real("own", condition=pso, low=0.0, high=3.0),
            Real("social", condition=pso, low=0.0, high=3.0),
        ),
        digits=4,
    )


def problem(function: Array, dimension: int, *, key: Key[Array, ""]) -> Callable[[Float[Array, " d"]], Array]:
    """The function of that number, shifted within the inner cube and reflected at a plane, both drawn from `key`.

    All functions are evaluated and one is taken: they are cheap, and one program then does for all of them.
    """
    shift_key, turn_key = jax.random.split(key)
    shift = jax.random.uniform(shift_key, (dimension,), jnp.float32, -0.8 * RANGE, 0.8 * RANGE)
    normal = jax.random.normal(turn_key, (dimension,), jnp.float32)
    normal = normal / jnp.sqrt(jnp.sum(normal**2))

    def cost(x: Float[Array, " d"]) -> Array:
        z = x - shift
        z = z - 2.0 * normal * jnp.sum(normal * z)  # Householder: orthogonal, and mixes all coordinates
        return jnp.stack([f(z) for f in FUNCTIONS.values()])[function]

    return cost


def differential_evolution(parameters: SwarmParameters, cost, dimension: int, generations: int, *, key) -> Array:
    """The least cost of a population of `POPULATION` after so many generations."""
    many = jax.vmap(cost)
    x = jax.random.uniform(jax.random.fold_in(key, 0), (POPULATION, dimension), jnp.float32, -RANGE, RANGE)

    def generation(state, number):
        x, fx = state
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        order = jnp.argsort(jax.random.uniform(keys[0], (POPULATION, POPULATION)), axis=1)[:, :3]
        a, b, c = x[order[:, 0]], x[order[:, 1]], x[order[:, 2]]
        base = jnp.where(parameters.to_best, x[jnp.argmin(fx)][None], a)
        mutant = jnp.clip(base + parameters.weight * (b - c), -RANGE, RANGE)
        forced = jax.random.randint(keys[1], (POPULATION, 1), 0, dimension) == jnp.arange(dimension)
        crossed = jax.random.uniform(keys[2], (POPULATION, dimension)) < parameters.crossover
        trial = jnp.where(crossed | forced, mutant, x)
        f = many(trial)
        return (jnp.where((f <= fx)[:, None], trial, x), jnp.minimum(f, fx)), None

    (_, fx), _ = jax.lax.scan(generation, (x, many(x)), jnp.arange(1, generations + 1))
    return jnp.min(fx)


def particle_swarm(parameters: SwarmParameters, cost, dimension: int, generations: int, *, key) -> Array:
    """The least cost of `POPULATION` particles after so many moves; all of them know the best."""
    many = jax.vmap(cost)
    x = jax.random.uniform(jax.random.fold_in(key, 0), (POPULATION, dimension), jnp.float32, -RANGE, RANGE)

    def move(state, number):
        x, v, own, f_own = state
        r = jax.random.uniform(jax.random.fold_in(key, number), (2, POPULATION, dimension))
        best = own[jnp.argmin(f_own)]
        v = parameters.inertia * v + parameters.own * r[0] * (own - x) + parameters.social * r[1] * (best - x)
        x = jnp.clip(x + jnp.clip(v, -RANGE, RANGE), -RANGE, RANGE)
        f = many(x)
        better = f < f_own
        return (x, v, jnp.where(better[:, None], x, own), jnp.minimum(f, f_own)), None

    begin = (x, jnp.zeros_like(x), x, many(x))
    (_, _, _, f_own), _ = jax.lax.scan(move, begin, jnp.arange(1, generations + 1))
    return jnp.min(f_own)


class ContinuousTarget:
    """`instances` are `<function>_<dimension>`; `generations` of 32 evaluations each."""

    def __init__(self, instances: Sequence[str], *, generations: int = 100):
        self.instances, self.generations = tuple(instances), generations
        self._parsed = {name: _parsed(name) for name in instances}

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        for job in jobs:
            self._parsed.setdefault(job.instance, _parsed(job.instance))
        group = lambda job: (job.configuration["algorithm"], self._parsed[job.instance][1])  # noqa: E731
        return vectorised.in_groups(jobs, group, self._solve)

    def _solve(self, group: Hashable, jobs: Sequence[Job], lanes: int, devices: Sequence[Any]) -> np.ndarray:
        assert isinstance(group, tuple)
        algorithm, dimension = group
        order = list(FUNCTIONS)
        functions = vectorised.padded([order.index(self._parsed[job.instance][0]) for job in jobs], lanes, np.int32)
        keys = vectorised.keys(vectorised.padded([job.seed for job in jobs], lanes, np.uint32))
        parameters = _parameters([job.configuration for job in jobs], lanes)
        batch = vectorised.spread((parameters, functions, keys), devices)
        costs = _run(*batch, algorithm=algorithm, dimension=dimension, generations=self.generations)
        return np.asarray(costs, float)[: len(jobs)]


@partial(jax.jit, static_argnames=("algorithm", "dimension", "generations"))
def _run(parameters, functions, keys, *, algorithm: str, dimension: int, generations: int):
    def one(parameters, function, key):
        search_key, problem_key = jax.random.split(key)
        cost = problem(function, dimension, key=problem_key)
        search = differential_evolution if algorithm == "de" else particle_swarm
        return jnp.log10(jnp.maximum(search(parameters, cost, dimension, generations, key=search_key), 1e-8))

    return jax.vmap(one)(parameters, functions, keys)


def _parsed(name: str) -> tuple[str, int]:
    function, _, dimension = name.rpartition("_")
    if function not in FUNCTIONS or not dimension.isdigit() or int(dimension) < 2:
        close = did_you_mean(function, FUNCTIONS)
        raise DataError(f"instance '{name}': expected <function>_<dimension of 2 or more>, as rastrigin_10{close}")
    return function, int(dimension)


def _parameters(configurations: Sequence[Configuration], lanes: int) -> SwarmParameters:
    def column(name: str) -> Array:
        values = [0.0 if c.get(name) is None else c[name] for c in configurations]
        return jnp.asarray(vectorised.padded(values, lanes, np.float32))  # type: ignore[arg-type]

    best = jnp.asarray(vectorised.padded([c.get("base") == "best" for c in configurations], lanes, bool))
    others = (column(name) for name in ("inertia", "own", "social"))
    return SwarmParameters(column("weight"), column("crossover"), best, *others)
