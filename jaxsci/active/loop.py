"""Ask, learn, ask again: one campaign, which a kill at any moment loses at most one fit of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxsci.active.acquisition import Situation, Strategy, choose
from jaxsci.active.ledger import Entry, Ledger
from jaxsci.active.protocol import D, Learner, M, Oracle, OracleError, Prospect, R
from jaxsci.active.stopping import StoppingRule
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.interrupt import Interrupt

REFUSALS_IN_A_ROW = 3  # after which the oracle is taken to be out of order


@dataclass(frozen=True)
class Campaign(Generic[R, M]):
    """How a campaign ended.

    - `model`: fitted to all answers.
    - `ledger`: every request, its cost and the score after it.
    - `result`: a sentence that says why it ended.
    - `interrupted`: by a signal; running again with the same ledger continues it.
    """

    model: M
    ledger: Ledger[R]
    result: str
    interrupted: bool = False


def run_campaign(
    oracle: Oracle[R, D],
    learner: Learner[R, D, M],
    strategy: Strategy,
    stopping: StoppingRule,
    ledger: Ledger[R],
    *,
    key: PRNGKeyArray,
    start: Sequence[R] = (),
    interrupt: Interrupt | None = None,
    checkpoints: Checkpoints | None = None,
    save_every: int = 1,
    after_fit: Callable[[Ledger[R]], None] | None = None,
) -> Campaign[R, M]:
    """Request, learn and record until `stopping` says so.

    **Arguments:**

    - `ledger`: empty for a new campaign; one that holds entries is continued, each answer recalled from the oracle
      free of charge. The continued campaign equals the uninterrupted one: all randomness is folded by the number of
      the request.
    - `start`: requests made first, whatever the strategy, with one fit after the last of them.
    - `checkpoints`: of the model after every `save_every` fits, for learners that continue from `model` instead of
      retraining from scratch. Fits made after the last of them are made again, with the data each had.
    - `after_fit`: is shown the ledger after every fit, for logs and progress.

    A request the oracle refuses (`OracleError`) is recorded with its reason and left out of the next choice. Raises
    `OracleError` after three refusals in a row.
    """
    data = [oracle.recall(entry.request, entry.receipt) for entry in ledger.answered]
    model, fitted = _continued(learner, ledger, checkpoints, key)
    while True:
        # Everything known but not yet learned comes first: it may be what a kill left behind.
        if len(data) > fitted and len(ledger.entries) >= len(start):
            # Who retrains from scratch needs the last fit only; who continues needs those that no checkpoint holds.
            begin = sum(entry.refused is None for entry in ledger.entries[: len(start)])
            missing = [len(data)] if checkpoints is None else range(max(fitted + 1, begin), len(data) + 1)
            for fitted in missing:
                model = learner.fit(model, tuple(data[:fitted]), key=_key(key, "fit", fitted))
            if checkpoints is not None and fitted % save_every == 0:
                checkpoints.save(fitted, model)
        if fitted and fitted == len(data) and not ledger.answered[-1].scores:
            ledger.score(learner.scores(model))
            if after_fit is not None:
                after_fit(ledger)
        if interrupt is not None and interrupt.requested():
            return Campaign(model, ledger, "interrupted; run again to continue", interrupted=True)
        reason = stopping.reason(ledger)
        if reason is not None:
            return Campaign(model, ledger, reason)
        made = len(ledger.entries)
        if made < len(start):
            request, chosen_by = start[made], "start"
        else:
            chance = _key(key, "choose", made)
            request, chosen_by = _next(oracle, learner, strategy, ledger, model, data, chance), strategy.kind
        if request is None:
            return Campaign(model, ledger, "the oracle has nothing left to ask for")
        try:
            answer = oracle.submit(request, key=_key(key, "submit", made))
        except OracleError as error:
            ledger.record(Entry(request, 0.0, {}, chosen_by, refused=str(error)))
            if all(entry.refused for entry in ledger.entries[-REFUSALS_IN_A_ROW:]) and made + 1 >= REFUSALS_IN_A_ROW:
                raise OracleError(f"{REFUSALS_IN_A_ROW} requests in a row were refused, the last: {error}") from error
        else:
            ledger.record(Entry(request, float(answer.cost), dict(answer.receipt), chosen_by))
            data.append(answer.data)


def _continued(
    learner: Learner[R, D, M], ledger: Ledger[R], checkpoints: Checkpoints | None, key: PRNGKeyArray
) -> tuple[M, int]:
    """The model to go on from and the number of answers it knows."""
    model = learner.initial(key=jax.random.fold_in(key, 0))
    if checkpoints is None or not ledger.answered:
        return model, 0
    found = checkpoints.restore_latest(model)
    if found is None:
        return model, 0
    restored, fitted, _ = found
    return restored, fitted


def _next(
    oracle: Oracle[R, D],
    learner: Learner[R, D, M],
    strategy: Strategy,
    ledger: Ledger[R],
    model: M,
    data: Sequence[D],
    key: PRNGKeyArray,
) -> R | None:
    just_refused = _refused_since_last_answer(ledger)
    requests = [request for request in oracle.requests() if request not in just_refused]
    if not requests:
        return None
    prospects: Sequence[Prospect] = [Prospect(None)] * len(requests)
    if strategy.needs_prospects and data:  # a learner that knows nothing expects nothing
        prospects = learner.prospects(model, tuple(data), requests)
    costs = [oracle.cost(request) for request in requests]
    situation = Situation(requests, prospects, costs, ledger.counts())
    for_utilities, for_ties = jax.random.split(key)
    utilities = np.asarray(strategy.utilities(situation, key=for_utilities))
    return requests[choose(utilities, costs, key=for_ties)]


def _refused_since_last_answer(ledger: Ledger[R]) -> list[R]:
    refused = []
    for entry in reversed(ledger.entries):
        if entry.refused is None:
            break
        refused.append(entry.request)
    return refused


def _key(key: PRNGKeyArray, purpose: Literal["fit", "submit", "choose"], number: int) -> PRNGKeyArray:
    """The same whether or not the campaign was interrupted."""
    return jax.random.fold_in(jax.random.fold_in(key, 1 + ("fit", "submit", "choose").index(purpose)), number)
