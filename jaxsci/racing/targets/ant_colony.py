"""MAX-MIN ant system on tours (Stuetzle and Hoos 2000, doi 10.1016/S0167-739X(00)00043-1), as a pure function of one
run.

Ants are built one after the other, a fixed number of tours for every run; after `ants` of them the trail evaporates and
the best tour deposits. Trails stay between tau_max = 1 / (rho L_best) and tau_max / (2 n). An ant goes to the city of
the least E / (tau^alpha eta^beta) among those left, E exponential: the same law as proportional choice.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxsci.racing.targets.two_opt import best_move, reversed_between, tour_length

POLISH = 8
"""Moves of 2-opt that a polished tour gets."""


class AntParameters(NamedTuple):
    """Of one run. `greedy` is the probability of the best next city instead of a drawn one (q0). With `polished`, every
    tour gets a few moves of 2-opt. `global_share`: how often the best tour so far deposits instead of the iteration's.
    """

    alpha: Array
    beta: Array
    rho: Array
    ants: Array
    greedy: Array
    polished: Array
    global_share: Array


def colony(
    parameters: AntParameters,
    distance: Int[Array, "w w"],
    size: Array,
    *,
    key: Key[Array, ""],
    tours: int,
) -> Int[Array, " w"]:
    """The best of `tours` tours."""
    width = distance.shape[0]
    places = jnp.arange(width)
    real = places < size
    log_eta = -jnp.log(jnp.maximum(distance, 1).astype(jnp.float32))

    def build(log_trail: Float[Array, "w w"], key: Key[Array, ""]) -> Int[Array, " w"]:
        weight = parameters.alpha * log_trail + parameters.beta * log_eta
        first = (jax.random.uniform(jax.random.fold_in(key, 0), (), jnp.float32) * size).astype(jnp.int32)
        noise = jax.random.uniform(jax.random.fold_in(key, 1), (width, width + 1), jnp.float32, 1e-7, 1.0)

        def visit(state, given):
            city, left = state
            number, drawn = given
            score = jnp.where(drawn[0] < parameters.greedy, weight[city], weight[city] - jnp.log(-jnp.log(drawn[1:])))
            chosen = jnp.argmax(jnp.where(left, score, -jnp.inf)).astype(jnp.int32)
            chosen = jnp.where(number < size, chosen, number)  # padding follows in its own order
            return (chosen, left & (places != chosen)), chosen

        rest = real & (places != first)
        numbers = jnp.arange(1, width, dtype=jnp.int32)
        _, visited = jax.lax.scan(visit, (first, rest), (numbers, noise[1:]))
        return jnp.concatenate([first[None], visited])

    def polish(tour: Int[Array, " w"]) -> Int[Array, " w"]:
        def move(tour, _):
            delta, i, j = best_move(tour, distance, size)
            return jnp.where((delta < 0) & parameters.polished, reversed_between(tour, i, j), tour), None

        return jax.lax.scan(move, tour, None, POLISH)[0]

    def ant(state, number):
        trail, best, least, iteration_best, iteration_least = state
        ant_key = jax.random.fold_in(key, number)
        tour = polish(build(jnp.log(trail), ant_key))
        now = tour_length(tour, distance, size)
        closer = now < iteration_least
        iteration_best = jnp.where(closer, tour, iteration_best)
        iteration_least = jnp.where(closer, now, iteration_least)
        best, least = jnp.where(now < least, tour, best), jnp.minimum(now, least)
        updating = number % parameters.ants == 0
        of_all = jax.random.uniform(jax.random.fold_in(ant_key, 2), (), jnp.float32) < parameters.global_share
        source = jnp.where(of_all, best, iteration_best)
        amount = 1.0 / jnp.where(of_all, least, iteration_least).astype(jnp.float32)
        after = source[jnp.where(places + 1 >= size, 0, places + 1)]
        deposit = jnp.zeros((width, width), jnp.float32).at[source, after].add(jnp.where(real, amount, 0.0))
        highest = 1.0 / (parameters.rho * least.astype(jnp.float32))
        lowest = highest / (2.0 * size)
        renewed = jnp.clip((1.0 - parameters.rho) * trail + deposit + deposit.T, lowest, highest)
        first = number == 1  # trails start at their upper bound, which the first tour tells
        trail = jnp.where(updating, renewed, jnp.where(first, highest, trail))
        iteration_least = jnp.where(updating, jnp.iinfo(jnp.int32).max, iteration_least)
        return (trail, best, least, iteration_best, iteration_least), None

    largest = jnp.int32(jnp.iinfo(jnp.int32).max)
    blank = places.astype(jnp.int32)
    begin = (jnp.ones((width, width), jnp.float32), blank, largest, blank, largest)
    end, _ = jax.lax.scan(ant, begin, jnp.arange(1, tours + 1, dtype=jnp.int32))
    return end[1]
