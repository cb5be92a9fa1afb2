"""Target: ant system or iterated 2-opt on the travelling salesman problem; cost is the gap to the optimum, in %."""

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.core.config import require
from jaxsci.core.errors import DataError
from jaxsci.racing.expressions import parse
from jaxsci.racing.space import Categorical, Configuration, Integer, Real, Space
from jaxsci.racing.targets import tsp, vectorised
from jaxsci.racing.targets.ant_colony import AntParameters, colony
from jaxsci.racing.targets.protocol import Job, Outcome
from jaxsci.racing.targets.two_opt import SearchParameters, iterated_search

CLASS = 32
LONGEST = 2**26  # of an edge: sums along a tour stay within 32 bits


def tsp_space() -> Space:
    """Ten parameters in the manner of irace's ACOTSP scenario."""
    ants, search = parse('algorithm == "mmas"'), parse('algorithm == "ils"')
    return Space(
        (
            Categorical("algorithm", values=("mmas", "ils")),
            Real("alpha", condition=ants, low=0.0, high=5.0),
            Real("beta", condition=ants, low=0.0, high=10.0),
            Real("rho", condition=ants, low=0.01, high=1.0),
            Integer("ants", condition=ants, low=2, high=32),
            Real("q0", condition=ants, low=0.0, high=1.0),
            Categorical("localsearch", condition=ants, values=("none", "2opt")),
            Real("global_share", condition=ants, low=0.0, high=1.0),
            Categorical("start", condition=search, values=("random", "nearest")),
            Integer("kicks", condition=search, low=1, high=8),
            Real("accept", condition=search, low=0.0, high=0.1),
        ),
        forbidden=(parse("(alpha == 0) & (beta == 0)"),),
        digits=4,
    )


DEFAULTS: Configuration = {
    "algorithm": "mmas",
    "alpha": 1.0,
    "beta": 2.0,
    "rho": 0.02,
    "ants": 25,
    "q0": 0.0,
    "localsearch": "none",
    "global_share": 0.0,
    "start": None,
    "kicks": None,
    "accept": None,
}
"""The ant system's published settings."""


class TspTarget:
    """`tours` tours of ants, or `20 tours` steps of iterated 2-opt: about the same time."""

    def __init__(self, instances: Sequence[tsp.TspInstance], *, tours: int = 50):
        require(tours >= 1, "tours", "at least 1", tours)
        self.by_name = {instance.name: instance for instance in instances}
        self.tours = tours
        for instance in instances:
            if instance.distance.max() * instance.size >= 2**31 or instance.distance.max() >= LONGEST:
                raise DataError(f"{instance.name}: distances beyond 32-bit tours; divide them by a common factor")

    @property
    def instances(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        for job in jobs:
            if job.instance not in self.by_name:
                raise DataError(f"instance '{job.instance}' is not among the {len(self.by_name)} loaded")
        return vectorised.in_groups(jobs, self._group, self._solve)

    def _group(self, job: Job) -> tuple[str, int]:
        return str(job.configuration["algorithm"]), self._width(job.instance)

    def _width(self, name: str) -> int:
        return -(-self.by_name[name].size // CLASS) * CLASS

    def _solve(self, group: Hashable, jobs: Sequence[Job], lanes: int, devices: Sequence[Any]) -> np.ndarray:
        assert isinstance(group, tuple)
        algorithm, width = group
        names = sorted({job.instance for job in jobs})
        table = np.zeros((len(names), width, width), np.int32)
        nearest = np.tile(np.arange(width, dtype=np.int32), (len(names), 1))
        for place, name in enumerate(names):
            instance = self.by_name[name]
            table[place, : instance.size, : instance.size] = instance.distance
            nearest[place, : instance.size] = tsp.nearest_neighbour(instance.distance)
        places = vectorised.padded([names.index(job.instance) for job in jobs], lanes, int)
        sizes = np.array([self.by_name[name].size for name in names], np.int32)[places]
        keys = vectorised.keys(vectorised.padded([job.seed for job in jobs], lanes, np.uint32))
        parameters = _parameters(algorithm, [job.configuration for job in jobs], lanes)
        batch = vectorised.spread((parameters, places.astype(np.int32), sizes, nearest[places], keys), devices)
        run = _ants if algorithm == "mmas" else _search
        tours, costs = np.asarray(run(jnp.asarray(table), *batch, tours=self.tours)), np.empty(len(jobs))
        for place, job in enumerate(jobs):
            instance = self.by_name[job.instance]
            costs[place] = instance.gap(tsp.length(instance, tours[place, : instance.size]))
        return costs


@partial(jax.jit, static_argnames="tours")
def _ants(table, parameters, places, sizes, nearest, keys, *, tours: int):
    def one(parameters, place, size, key):
        return colony(parameters, table[place], size, key=key, tours=tours)

    return jax.vmap(one)(parameters, places, sizes, keys)


@partial(jax.jit, static_argnames="tours")
def _search(table, parameters, places, sizes, nearest, keys, *, tours: int):
    def one(parameters, place, size, nearest, key):
        return iterated_search(parameters, table[place], size, nearest, key=key, steps=20 * tours)

    return jax.vmap(one)(parameters, places, sizes, nearest, keys)


def _parameters(
    algorithm: str, configurations: Sequence[Configuration], lanes: int
) -> AntParameters | SearchParameters:
    def column(name: str, dtype: type = np.float32) -> jax.Array:
        return jnp.asarray(vectorised.padded([c[name] for c in configurations], lanes, dtype))  # type: ignore[misc]

    def says(name: str, value: str) -> jax.Array:
        return jnp.asarray(vectorised.padded([c[name] == value for c in configurations], lanes, bool))

    if algorithm == "ils":
        nearest = says("start", "nearest")
        return SearchParameters(nearest, column("kicks", np.int32), column("accept"))
    return AntParameters(
        alpha=column("alpha"),
        beta=column("beta"),
        rho=column("rho"),
        ants=column("ants", np.int32),
        greedy=column("q0"),
        polished=says("localsearch", "2opt"),
        global_share=column("global_share"),
    )
