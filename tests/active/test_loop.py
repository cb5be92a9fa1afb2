import json

import jax
import numpy as np
import pytest
from campaigns import Counter, Mint, Toss

from jaxsci.active import Balanced, Committee, Entry, Ledger, OracleError, Random, StoppingRule, run_campaign
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import to_mapping
from jaxsci.core.errors import DataError
from jaxsci.core.interrupt import Interrupt

KEY = jax.random.key(3)
START = (Toss("fair"), Toss("biased"))


def campaign(ledger, strategy=None, learner=None, oracle=None, **options):
    options = {"key": KEY, "start": START, "stopping": StoppingRule(requests=8)} | options
    return run_campaign(
        oracle or Mint(), learner or Counter(), strategy or Committee(), options.pop("stopping"), ledger, **options
    )


def test_the_books_balance():
    done = campaign(Ledger(Toss))
    assert len(done.ledger.entries) == 8
    assert done.ledger.cost() == sum(Mint().cost(entry.request) for entry in done.ledger.entries)
    assert done.ledger.counts() == {
        coin: sum(entry.request.coin == coin for entry in done.ledger.entries) for coin in ("fair", "biased")
    }
    spent, tosses = done.ledger.course("tosses")
    np.testing.assert_array_equal(tosses, 4 * np.arange(2, 9))  # the first fit follows the last request of the start
    assert (np.diff(spent) > 0).all() and spent[-1] == done.ledger.cost()
    assert "requests" in done.result


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("strategy", [Committee(), Random(), Balanced()])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, warm, strategy):
    whole = campaign(Ledger(Toss), strategy, Counter(warm=False))
    path = tmp_path / "ledger.jsonl"
    saved = Checkpoints(tmp_path / "models") if warm else None
    with pytest.raises(KeyboardInterrupt):  # in the middle of a fit, when the answer is in the ledger already
        campaign(Ledger(Toss, path), strategy, Counter(warm=False, die_at=4), checkpoints=saved)
    assert len(Ledger(Toss, path).entries) == 5
    oracle = Mint()
    resumed = campaign(Ledger(Toss, path), strategy, Counter(warm=False), oracle, checkpoints=saved)
    assert [to_mapping(e) for e in resumed.ledger.entries] == [to_mapping(e) for e in whole.ledger.entries]
    assert len(oracle.submitted) == 3  # nothing was asked or paid for twice
    for ours, theirs in zip(jax.tree.leaves(resumed.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if saved is not None:
        saved.close()


@pytest.mark.parametrize("save_every", [1, 3, 50])
def test_a_warm_started_learner_goes_on_from_its_checkpoint(tmp_path, save_every):
    learner, six = Counter(warm=True), StoppingRule(requests=6)
    whole = campaign(Ledger(Toss), Random(), learner, stopping=six, start=())
    path = tmp_path / "ledger.jsonl"
    with Checkpoints(tmp_path / "models") as saved:
        options = {"checkpoints": saved, "start": (), "save_every": save_every}
        campaign(Ledger(Toss, path), Random(), learner, stopping=StoppingRule(requests=4), **options)
        resumed = campaign(Ledger(Toss, path), Random(), learner, stopping=six, **options)
    for name in ("heads", "tosses", "noise"):
        np.testing.assert_array_equal(resumed.model[name], whole.model[name])
    assert resumed.model["tosses"].sum() == 6 * 4


def test_a_signal_ends_it_after_the_answer_in_hand():
    class Signal(Interrupt):
        asked = 0

        def requested(self):
            self.asked += 1
            return self.asked > 4

    done = campaign(Ledger(Toss), interrupt=Signal())
    assert done.interrupted and len(done.ledger.entries) == 4
    assert done.ledger.entries[-1].scores


def test_a_refused_request_is_noted_and_another_made():
    coins = ("fair", "biased", "lost")
    done = campaign(Ledger(Toss), Balanced(), Counter(coins), Mint(coins, broken=("lost",)))
    refused = [entry for entry in done.ledger.entries if entry.refused]
    assert refused and all(entry.cost == 0 and entry.request.coin == "lost" for entry in refused)
    assert len(done.ledger.answered) + len(refused) == 8


def test_an_oracle_that_refuses_everything_is_given_up():
    with pytest.raises(OracleError, match="3 requests in a row"):
        coins = ("fair", "biased", "lost")
        campaign(Ledger(Toss), learner=Counter(coins), oracle=Mint(coins, broken=coins))


@pytest.mark.parametrize(
    "rule, expected",
    [
        (StoppingRule(requests=None, cost=20.0), "cost"),
        (StoppingRule(requests=None, score="tosses", target=20.0), "target"),
        (StoppingRule(requests=None, score="noise", patience=3), "patience"),
    ],
)
def test_stopping_rules(rule, expected):
    assert expected in campaign(Ledger(Toss), stopping=rule).result


def test_a_ledger_survives_its_process_and_refuses_what_is_none(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(Toss, path)
    ledger.record(Entry(Toss("fair"), 1.0, {"seed": 4}, "start"))
    ledger.score({"auc": 0.5})
    assert Ledger(Toss, path).entries == ledger.entries
    assert json.loads(path.read_text().splitlines()[0])["scores"] == {"auc": 0.5}
    path.write_text('{"request": {"coim": "fair"}}\n')
    with pytest.raises(DataError, match="ledger"):
        Ledger(Toss, path)
