"""Who asks, who answers: the two protocols of learning that asks for its own data.

An **oracle** answers requests at a cost: a pool of recorded experiments, a simulator, a laboratory. A **learner** is
fitted to the answers and says what it expects of a request that has not been made. Neither knows of the other;
`jaxsci.active.loop` brings them together.

A **request** is a frozen dataclass of plain values, so that the ledger can write it down and `core.config.build` can
read it back. Its property `group` names the class of experiment it belongs to; strategies balance over groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.errors import JaxsciError


class Request:
    """What an experiment is asked to be. Subclasses are frozen dataclasses with plain fields."""

    @property
    def group(self) -> str:
        """The class of experiment, such as an anomaly or a kind of defect."""
        raise NotImplementedError


R = TypeVar("R", bound=Request)  # the kind of request
D = TypeVar("D")  # what an answer brings
R_contra = TypeVar("R_contra", bound=Request, contravariant=True)  # the request a learner only takes
D_contra = TypeVar("D_contra", contravariant=True)
M = TypeVar("M")  # a fitted model


class OracleError(JaxsciError):
    """A request could not be answered: nothing left, timed out, refused. The loop leaves it out and goes on."""


@dataclass(frozen=True)
class Answer(Generic[D]):
    """What came of a request.

    - `data`: the new data.
    - `cost`: what it did cost, in the unit of the oracle.
    - `receipt`: what `Oracle.recall` needs to fetch the same data again without paying: plain JSON values such as
      indices, a seed, or file names.
    """

    data: D
    cost: float
    receipt: Mapping[str, Any]


@runtime_checkable
class Oracle(Protocol[R, D]):
    """Answers requests, at a declared cost.

    `unit` names the cost, such as "testbed-seconds".
    """

    unit: str

    def requests(self) -> Sequence[R]:
        """What can be asked for now, in a fixed order. Empty when nothing is left."""
        ...

    def cost(self, request: R) -> float:
        """What an answer to `request` is expected to cost, above 0."""
        ...

    def submit(self, request: R, *, key: PRNGKeyArray) -> Answer[D]:
        """Have the experiment made. Raises `OracleError` when it cannot be, and then charges nothing."""
        ...

    def recall(self, request: R, receipt: Mapping[str, Any]) -> D:
        """The data of an earlier answer, free of charge; a pool takes note that they are used up."""
        ...


@dataclass(frozen=True)
class Prospect:
    """What a learner expects of a request.

    - `predictions`: class probabilities of each member of an ensemble for the items (jobs, workers, images) of
      answers like the one to expect; `None` where the learner has seen nothing like it.
    - `items`: how many items the answer would bring.
    - `loss`: held-out cross-entropy on earlier answers to such requests; `None` where there are none.
    - `gain`: by how much the learner expects to know better, in a unit of its own; `None` where it cannot say.
    """

    predictions: Float[Array, "members items classes"] | Float[np.ndarray, "members items classes"] | None
    items: float = 1.0
    loss: float | None = None
    gain: float | None = None


@runtime_checkable
class Learner(Protocol[R_contra, D_contra, M]):
    """A model that is fitted again after every answer."""

    def initial(self, *, key: PRNGKeyArray) -> M:
        """A model that has seen nothing: where a warm-started learner begins, and the form of its checkpoints."""
        ...

    def fit(self, model: M, data: Sequence[D_contra], *, key: PRNGKeyArray) -> M:
        """Fit to all answers so far, the newest last. A learner that retrains from scratch ignores `model`."""
        ...

    def prospects(self, model: M, data: Sequence[D_contra], requests: Sequence[R_contra]) -> Sequence[Prospect]:
        """What to expect of each of `requests`, knowing `data`."""
        ...

    def scores(self, model: M) -> Mapping[str, float]:
        """How good the model is, on data that no request can bring."""
        ...
