"""The simulator as an oracle: a classifier that asks for the patterns it still needs (`jaxsci.active`).

A cell is a class in a domain. A request asks for so many patterns of one cell; its receipt is the number that, folded
into the oracle's key, gives them again.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray, PyTree
from scipy.special import softmax

from jaxsci.active import Answer, Prospect, Request, Situation, Strategy
from jaxsci.core.config import between
from jaxsci.diffraction.classifier import Classifier, reflection_features
from jaxsci.diffraction.continual import LearnerConfig, UpdateRule, join, logits_of, running_mean, take
from jaxsci.diffraction.generator import CLASSES, Prior
from jaxsci.diffraction.learning import Patterns, pattern_program


@dataclass(frozen=True)
class PatternRequest(Request):
    """`count` patterns of one class in one domain."""

    domain: str
    kind: str
    count: int

    @property
    def group(self) -> str:
        return f"{self.domain}/{self.kind}"


class Simulator:
    """Answers with fresh patterns, at the cost of the seconds that a pattern of the domain takes (measured once)."""

    unit = "simulator-seconds"

    def __init__(self, domains: Mapping[str, Prior], *, count: int, classes: int, key: PRNGKeyArray):
        self.domains, self._count, self._key = dict(domains), count, key
        self._kinds = CLASSES[:classes]
        self._programs = {name: pattern_program(prior) for name, prior in domains.items()}
        self._seconds = {name: self._time(name) for name in domains}

    def requests(self) -> Sequence[PatternRequest]:
        return [PatternRequest(domain, kind, self._count) for domain in self.domains for kind in self._kinds]

    def cost(self, request: PatternRequest) -> float:
        return self._seconds[request.domain] * request.count

    def submit(self, request: PatternRequest, *, key: PRNGKeyArray) -> Answer[Patterns]:
        receipt = {"draw": int(jax.random.randint(key, (), 0, 2**31 - 1))}
        return Answer(self.recall(request, receipt), self.cost(request), receipt)

    def recall(self, request: PatternRequest, receipt: Mapping[str, Any]) -> Patterns:
        return self.draw(request, self._stream(receipt["draw"]))

    def lanes(self, request: PatternRequest, draw: int) -> tuple[Key[Array, " count"], Int[Array, " count"]]:
        """A key and a class for every pattern of the request whose receipt names `draw`."""
        return self._lanes(request, self._stream(draw))

    def draw(self, request: PatternRequest, key: PRNGKeyArray) -> Patterns:
        """Patterns of a request from a key of one's own, as for tests."""
        keys, kinds = self._lanes(request, key)
        made = jax.device_get(self._programs[request.domain](keys, kinds))
        features = np.asarray(reflection_features(self.domains[request.domain].reflection))
        inputs, scalars, kind, visibility, target = made
        return Patterns(inputs, scalars, kind, visibility, target, np.tile(features, (request.count, 1)))

    def _stream(self, draw: int) -> PRNGKeyArray:
        return jax.random.fold_in(self._key, draw)

    def _lanes(self, request: PatternRequest, key: PRNGKeyArray) -> tuple[Key[Array, " count"], Int[Array, " count"]]:
        return jax.random.split(key, request.count), jnp.full(request.count, self._kinds.index(request.kind))

    def _time(self, domain: str) -> float:
        request = PatternRequest(domain, CLASSES[0], self._count)
        self.draw(request, self._key)  # compiles
        begin = time.perf_counter()
        self.draw(request, self._key)
        return (time.perf_counter() - begin) / self._count


@dataclass(frozen=True)
class AccuracyDriven(Strategy, kind="accuracy"):
    """Cells in proportion to what their expected accuracy lacks of `target`, and a share `exploration` of them alike.

    The learner reports the lack as the prospect's `loss`. The largest log share + Gumbel noise is a draw.
    """

    exploration: float = 0.1

    def __post_init__(self) -> None:
        between(self, "exploration", 0.0, 1.0)

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        lacking = np.array([1.0 if p.loss is None else p.loss for p in situation.prospects])
        even = np.full(len(lacking), 1 / len(lacking))
        shares = lacking / lacking.sum() if lacking.sum() > 0 else even
        shares = (1 - self.exploration) * shares + self.exploration * even
        return np.log(shares) + np.asarray(jax.random.gumbel(key, (len(shares),)))


class OnlineModel(NamedTuple):
    """What a campaign carries from fit to fit."""

    params: PyTree
    optimizer: PyTree
    average: PyTree
    """Running mean of the parameters: the network that answers."""
    updates: Int[Array, ""]


class ReplayLearner:
    """Continues from the last fit by `config.updates` of the rule `update` on batches from all answers so far.

    Every fit costs the same, whatever the policy. `target` is the accuracy that no cell need exceed.
    """

    def __init__(
        self,
        network: Classifier,
        update: UpdateRule,
        validation: Mapping[str, Patterns],
        test: Patterns,
        config: LearnerConfig,
        *,
        target: float = 1.0,
    ):
        self._network, self._config, self._target = network, config, target
        self._validation, self._test = dict(validation), test
        self._rule = update
        self._static = eqx.partition(network, eqx.is_inexact_array)[1]
        self.opponent = network
        """The network whose prospects were asked for last: the one an adversary has to fool."""

    def network(self, model: OnlineModel) -> Classifier:
        return eqx.combine(model.average, self._static)

    def initial(self, *, key: PRNGKeyArray) -> OnlineModel:
        params = eqx.filter(self._network, eqx.is_inexact_array)
        return OnlineModel(params, self._rule.optimizer.init(params), params, jnp.zeros((), jnp.int32))

    def fit(self, model: OnlineModel, data: Sequence[Patterns], *, key: PRNGKeyArray) -> OnlineModel:
        rng = np.random.default_rng(int(jax.random.randint(key, (), 0, 2**31 - 1)))
        pool, (params, state, average, updates) = join(list(data)), model
        none = jnp.zeros((self._config.batch, self._network.classes))
        for _ in range(self._config.updates):
            chosen = take(pool, rng.integers(0, len(pool.kind), self._config.batch))
            batch = (chosen.inputs, chosen.reflection, chosen.target)
            params, state = self._rule.apply(params, state, batch, batch, none, 0.0, params, params)
            average, updates = running_mean(average, params, updates, self._config.average)
        return OnlineModel(params, state, average, updates)

    def prospects(
        self, model: OnlineModel, data: Sequence[Patterns], requests: Sequence[PatternRequest]
    ) -> Sequence[Prospect]:
        """`predictions` are of the cell's validation patterns; `loss` is what their expected accuracy lacks.

        Expected: the mean probability of the true class, which two dozen patterns tell better than the share of them
        that are named right.
        """
        self.opponent = network = self.network(model)
        groups = [request.group for request in requests]
        parts = [self._validation[group] for group in groups]
        logits = logits_of(network, join(parts))
        ends = np.cumsum([len(part.kind) for part in parts])
        found = []
        for part, rows, request in zip(parts, np.split(logits, ends[:-1]), requests, strict=True):
            shares = softmax(rows, axis=-1)
            expected = float(np.mean(shares[np.arange(len(shares)), part.target]))
            lack = max(self._target - expected, 0.0)
            found.append(Prospect(shares[None], float(request.count), lack))
        return found

    def scores(self, model: OnlineModel) -> Mapping[str, float]:
        logits = logits_of(self.network(model), self._test)
        loss = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.asarray(self._test.target))
        return {
            "accuracy": float(np.mean(logits.argmax(axis=1) == self._test.target)),
            "cross_entropy": float(jnp.mean(loss)),
        }
