import jax
import jax.numpy as jnp
import numpy as np
import pytest
from campaigns import Toss

from jaxsci.active import (
    Balanced,
    ClassDirected,
    Committee,
    Entropy,
    ExpectedGain,
    Prospect,
    Random,
    Situation,
    mutual_information,
    predictive_entropy,
)
from jaxsci.active.acquisition import choose

KEY = jax.random.key(0)
AGREED = jnp.full((4, 3, 2), 0.5)  # a fair coin, of which every member is sure that it is one
DISPUTED = jnp.array([[[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3] * 2)  # each member sure, of opposite things


def test_what_no_data_can_settle_carries_no_information():
    np.testing.assert_allclose(predictive_entropy(AGREED), np.log(2), rtol=1e-6)  # float32
    np.testing.assert_allclose(mutual_information(AGREED), 0.0, atol=1e-6)


def test_full_disagreement_carries_all_of_the_entropy():
    np.testing.assert_allclose(mutual_information(DISPUTED), np.log(2), rtol=1e-6)


def test_information_lies_between_nothing_and_the_entropy():
    p = jax.random.dirichlet(KEY, jnp.ones(5), (7, 100))
    gained = mutual_information(p)
    assert (gained >= 0).all() and (gained <= predictive_entropy(p)).all()


def situation(predictions, losses=(None, None), costs=(1.0, 1.0), counts=None):
    prospects = [Prospect(p, 3.0, loss) for p, loss in zip(predictions, losses, strict=True)]
    return Situation([Toss("fair"), Toss("biased")], prospects, costs, counts or {})


def test_committee_asks_where_members_differ_and_entropy_cannot_tell():
    both = situation([AGREED, DISPUTED])
    committee = Committee().utilities(both, key=KEY)
    assert committee[1] > committee[0] + 1
    entropy = Entropy().utilities(both, key=KEY)
    np.testing.assert_allclose(entropy[0], entropy[1], rtol=1e-6)


def test_a_dear_request_must_tell_more_than_in_proportion():
    half = 0.5 * DISPUTED + 0.5 * AGREED
    dear = situation([half, DISPUTED], costs=(1.0, 100.0))
    assert np.argmax(Committee(per_cost=True).utilities(dear, key=KEY)) == 0
    assert np.argmax(Committee(per_cost=False).utilities(dear, key=KEY)) == 1


@pytest.mark.parametrize("strategy", [Committee(), Entropy(), ClassDirected()])
def test_what_was_never_seen_comes_first(strategy):
    assert np.argmax(strategy.utilities(situation([DISPUTED, None], (5.0, None)), key=KEY)) == 1


def test_class_directed_asks_for_the_class_that_is_predicted_worst():
    utilities = ClassDirected().utilities(situation([AGREED, AGREED], (0.2, 0.7)), key=KEY)
    assert np.argmax(utilities) == 1


def test_balanced_fills_the_smaller_group_and_weighs_by_price_if_asked():
    few = situation([None, None], costs=(1.0, 5.0), counts={"fair": 3, "biased": 1})
    assert np.argmax(Balanced().utilities(few, key=KEY)) == 1
    assert np.argmax(Balanced(per_cost=True).utilities(few, key=KEY)) == 0  # 3 x 1 against 1 x 5


def test_random_is_even():
    keys = jax.random.split(KEY, 2000)
    flat = Random().utilities(situation([None, None]), key=KEY)
    share = np.mean([choose(flat, (1.0, 1.0), key=k) for k in keys])
    assert abs(share - 0.5) < 0.05  # 4.5 standard deviations of a fair coin


def test_among_unknown_requests_the_cheapest():
    assert choose(np.array([np.inf, np.inf, 1.0]), (9.0, 2.0, 1.0), key=KEY) == 1


def test_the_gain_a_learner_expects_is_weighed_against_its_price():
    prospects = [Prospect(None, gain=gain) for gain in (2.0, 5.0, None)]
    seen = Situation([Toss("fair"), Toss("biased")], prospects[:2], (1.0, 4.0), {})
    assert np.argmax(ExpectedGain(per_cost=True).utilities(seen, key=KEY)) == 0
    assert np.argmax(ExpectedGain(per_cost=False).utilities(seen, key=KEY)) == 1
    unknown = Situation([Toss("fair")] * 3, prospects, (1.0, 1.0, 9.0), {})
    assert np.argmax(ExpectedGain().utilities(unknown, key=KEY)) == 2  # what was never seen comes first


def test_a_prospect_counts_its_own_items_only():
    """Whatever they are padded to."""
    p = jax.random.dirichlet(KEY, jnp.ones(5), (7, 11))
    both = situation([p, p[:, :1]])
    for strategy, information in ((Committee(per_cost=False), mutual_information), (Entropy(), predictive_entropy)):
        expected = [3.0 * information(p).mean(), 3.0 * information(p[:, :1]).mean()]
        np.testing.assert_allclose(strategy.utilities(both, key=KEY), expected, rtol=1e-5)
