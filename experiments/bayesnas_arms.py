"""One seed of the classification study: search, then every arm trained and evaluated, each stage kept on disk."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.bayesnas_config import Config
from experiments.stages import Stages
from jaxsci.bayesnas.batches import Examples, take
from jaxsci.bayesnas.calibration import scores
from jaxsci.bayesnas.ensemble import best_architecture, draw_architectures, nested, weighted_mixture
from jaxsci.bayesnas.members import Mode, Trainer, advance, collect, predict, predict_each, start_chains
from jaxsci.bayesnas.search import Search, SearchState, run_search, search_batches
from jaxsci.bayesnas.selection import greedy
from jaxsci.bayesnas.space import one_hot
from jaxsci.bayesnas.uncertainty import entropy_split
from jaxsci.bayesnas.weights import Task, WeightPosterior
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.mesh import make_mesh
from jaxsci.core.progress import Progress


class Problem(NamedTuple):
    """The four disjoint parts of the data, and what the networks are tried on beside the clean test set."""

    train: Examples
    architecture: Examples
    calibration: Examples
    test: Examples
    corrupted: dict[tuple[str, int], Examples]
    """By corruption and severity. Never used for choosing anything."""
    unfamiliar: dict[str, Array]
    """Inputs of no class, by kind."""
    classes: int


def cross_entropy(outputs: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, ""]:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))


@dataclass(frozen=True)
class SeedStudy:
    """Everything one seed does. Stages are named after it, so seeds do not disturb each other."""

    config: Config
    problem: Problem
    stages: Stages
    bar: Progress
    directory: Path
    seed: int
    mode: Mode

    @property
    def key(self) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.key(self.config.seed), self.seed)

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.problem.train.x.shape[1:]

    @property
    def pool(self) -> int:
        """Random architectures that cost what the joint ensemble costs with its search (two gradients a step)."""
        ensemble, search = self.config.ensemble, self.config.search
        chains = ensemble.architectures * ensemble.restarts
        searched = 2 * search.steps * search.batch_size / (ensemble.steps * ensemble.batch_size)
        return ensemble.pool or math.ceil(chains + searched)

    def stage(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, np.ndarray]:
        result = self.stages.get(f"seed{self.seed}_{name}", compute)
        self.bar.update(1, stage=f"seed {self.seed}: {name}")
        return result

    def run(self) -> dict[str, dict[str, np.ndarray]]:
        """Results by stage: `search`, and for each trained group its predictions (see `_train`)."""
        config, ensemble = self.config, self.config.ensemble
        chains = ensemble.architectures * ensemble.restarts
        results = {"search": self.stage("search", self._search)}
        probabilities = jnp.asarray(results["search"]["probabilities"])
        best = best_architecture(config.space, probabilities, key=jax.random.fold_in(self.key, 1))
        drawn = draw_architectures(
            config.space, probabilities, ensemble.architectures, key=jax.random.fold_in(self.key, 2)
        )
        uniform = jnp.full_like(probabilities, 1 / len(config.space.ops))
        random = draw_architectures(config.space, uniform, self.pool, key=jax.random.fold_in(self.key, 3))
        plans = {
            "deep_ensemble": (config.baseline, np.tile(best, (chains, 1)), 10),
            "deep_ensemble_chain": (config.weights, np.tile(best, (chains, 1)), 11),
            "random_architectures": (config.weights, random, 12),
            "joint": (config.weights, np.repeat(drawn, ensemble.restarts, axis=0), 13),
        }
        for name, (method, choices, number) in plans.items():
            results[name] = self.stage(name, partial(self._train, name, method, choices, number))
        return results

    def _search(self) -> dict[str, Any]:
        config, problem = self.config, self.problem
        counts = (len(problem.train.y), len(problem.architecture.y))
        if config.search.objective == "elbo":
            counts = (sum(counts), sum(counts))
        search = Search(config.space, config.search, cross_entropy, counts)
        key = jax.random.fold_in(self.key, 0)
        if self.mode == "unroll":
            state, entropy = self._search_by_steps(search, key)
        else:
            state, entropy = _searched(search, self.inputs, problem.classes, problem.train, problem.architecture, key)
        accuracy = self._discretisation(state, key)
        return {"probabilities": state.q.probabilities(), "entropy": entropy, **accuracy}

    def _search_by_steps(self, search: Search, key: Key[Array, ""]) -> tuple[Any, np.ndarray]:
        """The same with a program per step: gradients of convolutions are slow inside loops on CPUs."""
        start, draw = jax.random.split(key)
        state = search.init(self.inputs, self.problem.classes, key=start)
        first, second = search_batches(search, self.problem.train, self.problem.architecture, key=draw)

        @jax.jit
        def step(state, number, w, a):
            batches = take(first.data, w), take(second.data, a)
            return search.update(state, *batches, key=jax.random.fold_in(draw, number))

        entropy = []
        for number in range(search.config.steps):
            state, info = step(state, jnp.int32(number), first.rows[number], second.rows[number])
            entropy.append(info.entropy)
            if number % 20 == 19:
                self.stages.stop_if_asked()
                self.bar.update(0, stage=f"search {number + 1}/{search.config.steps}", loss=float(info.loss))
        return state, np.asarray(jnp.stack(entropy))

    def _discretisation(self, state: Any, key: Key[Array, ""]) -> dict[str, Array]:
        """Accuracy of the shared weights on the calibration part: relaxed draw, argmax and sampled architecture."""
        q, data, ops = state.q, self.problem.calibration, len(self.config.space.ops)
        accuracy = lambda z: jnp.mean(  # noqa: E731
            jnp.argmax(self.config.space.apply(state.params, z, data.x), -1) == data.y
        )
        keys = jax.random.split(key, 8)
        relaxed = [accuracy(q.rsample(self.config.search.final_temperature, key=k)) for k in keys]
        sampled = [accuracy(one_hot(q.sample_discrete(key=k), ops)) for k in keys]
        return {
            "accuracy_relaxed": jnp.mean(jnp.stack(relaxed)),
            "accuracy_argmax": accuracy(one_hot(q.mode(), ops)),
            "accuracy_sampled": jnp.mean(jnp.stack(sampled)),
        }

    def _train(
        self, name: str, method: WeightPosterior, choices: Int[np.ndarray, "members decisions"], number: int
    ) -> dict[str, Any]:
        """Train one arm's members and keep their probabilities.

        `test`, `calibration`, `unfamiliar_*`: (members, samples, examples, classes). `corrupted`: (sets, examples,
        classes), mean over members and samples; `member_scores`: mean scores of single members on each of those sets.
        """
        config, problem = self.config, self.problem
        task = Task(len(problem.train.y), config.ensemble.steps, config.ensemble.prior_std)
        trainer = Trainer(config.space, method, task, cross_entropy, config.ensemble.batch_size)
        z = one_hot(jnp.asarray(choices), len(config.space.ops))
        base = jax.random.fold_in(self.key, number)
        keys = jax.vmap(lambda m: jax.random.fold_in(base, m))(jnp.arange(len(z)))
        size = config.ensemble.group or len(z)
        parts = [
            self._group(trainer, z[first : first + size], keys[first : first + size], f"{number}_{first}")
            for first in range(0, len(z), size)
        ]
        weights = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        look = lambda x: _probabilities(trainer, weights, z, x, self.mode)  # noqa: E731
        sets = [look(data.x) for data in problem.corrupted.values()]
        labels = [data.y for data in problem.corrupted.values()]
        result = {
            "choices": choices,
            "test": look(problem.test.x),
            "calibration": look(problem.calibration.x),
            "corrupted": jnp.stack([jnp.mean(p, axis=(0, 1)) for p in sets]),
            "member_scores": jnp.stack([_mean_scores(p, y) for p, y in zip(sets, labels, strict=True)]),
            **{f"unfamiliar_{kind}": look(x) for kind, x in problem.unfamiliar.items()},
        }
        if name == "random_architectures":
            result |= self._selected(result, sets)
        if name == "joint":
            result["corrupted_split"] = jnp.stack([_split(p, config.ensemble.architectures) for p in sets])
        return result

    def _selected(self, pool: dict[str, Any], sets: list[Array]) -> dict[str, Array]:
        """NES: greedy selection among all samples of the pool on the calibration part, as many as the joint has."""
        ensemble = self.config.ensemble
        rounds = ensemble.architectures * ensemble.restarts * self.config.weights.samples
        flat = lambda p: p.reshape(-1, *p.shape[-2:])  # noqa: E731
        weights = greedy(flat(pool["calibration"]), self.problem.calibration.y, rounds).weights
        mixed = lambda p: weighted_mixture(flat(p), weights)  # noqa: E731
        return {
            "nes_weights": weights,
            "nes_test": mixed(pool["test"]),
            "nes_calibration": mixed(pool["calibration"]),
            "nes_corrupted": jnp.stack([mixed(p) for p in sets]),
        }

    def _group(self, trainer: Trainer, z: Array, keys: Array, name: str) -> Any:
        """Train members together in dispatches. A stop between them keeps the state of the group."""
        ensemble = self.config.ensemble
        chains = start_chains(trainer, z, self.inputs, self.problem.classes, keys=keys)
        mesh = make_mesh(self.config.mesh) if self.mode == "shard" else None
        with Checkpoints(self.directory / f"seed{self.seed}_group{name}", keep=1) as saved:
            restored = saved.restore_latest(chains.state)
            at = 0
            if restored is not None:
                state, at, _ = restored
                chains = chains._replace(state=state)
            while at < ensemble.steps:
                steps = min(ensemble.steps_per_dispatch, ensemble.steps - at)
                chains, info = advance(trainer, chains, self.problem.train, at, steps, mode=self.mode, mesh=mesh)
                at += steps
                if at < ensemble.steps:
                    self.bar.update(0, stage=f"members {at}/{ensemble.steps}", loss=float(info.loss[:, -1].mean()))
                    if self.stages.asked:
                        saved.save(at, chains.state)
                        saved.wait()
                        self.stages.stop_if_asked()
        return collect(trainer, chains, self.problem.train, together=self.mode != "unroll")


@partial(jax.jit, static_argnums=(0, 1, 2))
def _searched(
    search: Search, inputs: tuple[int, ...], classes: int, train: Examples, architecture: Examples, key: Array
) -> tuple[SearchState, Array]:
    state, info = run_search(search, inputs, classes, train, architecture, key=key)
    return state, info.entropy


def _probabilities(trainer: Trainer, weights: Any, z: Array, x: Array, mode: Mode, block: int = 500) -> Array:
    """Class probabilities of all members and samples, by blocks of examples where the members take turns."""
    if mode != "unroll":
        return jax.nn.softmax(predict(trainer.space, weights, z, x))
    blocks = [predict_each(trainer.space, weights, z, x[i : i + block]) for i in range(0, len(x), block)]
    return jax.nn.softmax(jnp.concatenate(blocks, axis=2))


@jax.jit
def _mean_scores(p: Float[Array, "members samples examples classes"], y: Int[Array, " examples"]) -> Array:
    """Scores of single members: row 0 the last sample alone, row 1 all of a member; means over members."""
    last = jax.vmap(lambda p: jnp.stack(scores(p, y)))(p[:, -1])
    chain = jax.vmap(lambda p: jnp.stack(scores(p, y)))(jnp.mean(p, axis=1))
    return jnp.stack([jnp.mean(last, axis=0), jnp.mean(chain, axis=0)])


def _split(p: Float[Array, "members samples examples classes"], architectures: int) -> Float[Array, "4"]:
    """Mean entropy over a set, and its parts."""
    return jnp.stack([jnp.mean(part) for part in entropy_split(nested(p, architectures))])
