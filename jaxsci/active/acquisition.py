"""Which request to make next: strategies that give each request a utility, of which the loop takes the largest.

Information is measured in nats. With probabilities p[m, i, c] of ensemble members m for items i,

    entropy             H(mean_m p)                         total uncertainty, noise included
    mutual information  H(mean_m p) - mean_m H(p)           what the members disagree about, so what data can settle

(BALD: Houlsby et al., arXiv:1112.5745; query by committee: Seung, Opper & Sompolinsky, doi:10.1145/130385.130417).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.active.protocol import Prospect, Request
from jaxsci.core.config import Choice


def entropy(probabilities: Float[Array, "*batch classes"]) -> Float[Array, "*batch"]:
    """Shannon entropy in nats; 0 log 0 = 0."""
    return jax.scipy.special.entr(probabilities).sum(axis=-1)


def predictive_entropy(probabilities: Float[Array, "members items classes"]) -> Float[Array, "items"]:
    """Entropy of the ensemble's mean, in nats."""
    return entropy(probabilities.mean(axis=0))


def mutual_information(probabilities: Float[Array, "members items classes"]) -> Float[Array, "items"]:
    """What the label of an item would tell about which member is right, in nats; at least 0."""
    gained = predictive_entropy(probabilities) - entropy(probabilities).mean(axis=0)
    return jnp.maximum(gained, 0.0)  # rounding


@dataclass(frozen=True)
class Situation:
    """What a strategy may know: the requests open to it, parallel sequences, and the answers so far by group."""

    requests: Sequence[Request]
    prospects: Sequence[Prospect]
    costs: Sequence[float]
    counts: Mapping[str, int]


class Strategy(Choice):
    """Gives each open request a utility. `needs_prospects` spares the learner questions nobody asks.

    A request of which the learner knows nothing has utility infinity for the informed strategies: what was never seen
    comes first. The loop breaks ties at random.
    """

    needs_prospects: ClassVar[bool] = True

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        raise NotImplementedError


@dataclass(frozen=True)
class Random(Strategy, kind="random"):
    """Every open request alike."""

    needs_prospects: ClassVar[bool] = False

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        return np.zeros(len(situation.requests))


@dataclass(frozen=True)
class Balanced(Strategy, kind="balanced"):
    """The group with the fewest answers. With `per_cost`, the group on which least was spent at the present price."""

    needs_prospects: ClassVar[bool] = False
    per_cost: bool = False

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        counts = np.array([situation.counts.get(request.group, 0) for request in situation.requests], float)
        return -counts * np.array(situation.costs) if self.per_cost else -counts


@dataclass(frozen=True)
class Entropy(Strategy, kind="entropy"):
    """Largest expected predictive entropy: takes noise for ignorance, and is here to be compared with."""

    per_cost: bool = False

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        return _informed(situation, predictive_entropy, per_cost=self.per_cost)


@dataclass(frozen=True)
class Committee(Strategy, kind="committee"):
    """Largest expected disagreement of the ensemble (BALD), by default per unit of cost."""

    per_cost: bool = True

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        return _informed(situation, mutual_information, per_cost=self.per_cost)


@dataclass(frozen=True)
class ClassDirected(Strategy, kind="class_directed"):
    """The group of which held-out answers are predicted worst, unseen groups first."""

    per_cost: bool = False

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        known = [np.inf if p.loss is None else p.loss for p in situation.prospects]
        return np.array(known) / (np.array(situation.costs) if self.per_cost else 1.0)


@dataclass(frozen=True)
class ExpectedGain(Strategy, kind="expected_gain"):
    """Largest gain that the learner itself expects (`Prospect.gain`), by default per unit of cost."""

    per_cost: bool = True

    def utilities(self, situation: Situation, *, key: PRNGKeyArray) -> Float[np.ndarray, "requests"]:
        gains = np.array([np.inf if p.gain is None else p.gain for p in situation.prospects])
        return gains / (np.array(situation.costs) if self.per_cost else 1.0)


def _informed(
    situation: Situation, information: Callable[[Array], Array], *, per_cost: bool
) -> Float[np.ndarray, "requests"]:
    """The mean information of the items of each prospect, times how many a request brings."""
    gains = [
        np.inf
        if prospect.predictions is None
        else prospect.items * float(information(_padded(prospect.predictions)).sum()) / prospect.predictions.shape[1]
        for prospect in situation.prospects
    ]
    return np.array(gains) / (np.array(situation.costs) if per_cost else 1.0)


def _padded(
    probabilities: Float[Array, "members items classes"] | Float[np.ndarray, "members items classes"],
) -> Float[Array, "members more classes"]:
    """Certain items, of which nothing is to be learned, up to a power of two: programs for few shapes are compiled."""
    members, items, classes = probabilities.shape
    padded = np.zeros((members, 1 << max(items - 1, 0).bit_length(), classes), probabilities.dtype)
    padded[:, :items], padded[:, items:, 0] = np.asarray(probabilities), 1.0
    return jnp.asarray(padded)


def choose(utilities: Float[np.ndarray, "requests"], costs: Sequence[float], *, key: PRNGKeyArray) -> int:
    """The index of the largest utility; among infinite ones the cheapest, among equal ones any."""
    best = np.flatnonzero(utilities == utilities.max())
    if np.isinf(utilities[best[0]]) and utilities[best[0]] > 0:
        prices = np.array(costs)[best]
        best = best[prices == prices.min()]
    return int(best[jax.random.randint(key, (), 0, len(best))])
