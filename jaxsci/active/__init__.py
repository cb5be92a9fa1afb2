"""Learning that asks for its own data: requests, oracles, strategies, and the loop that keeps the books."""

from jaxsci.active.acquisition import (
    Balanced,
    ClassDirected,
    Committee,
    Entropy,
    ExpectedGain,
    Random,
    Situation,
    Strategy,
    mutual_information,
    predictive_entropy,
)
from jaxsci.active.ledger import Entry, Ledger
from jaxsci.active.loop import Campaign, run_campaign
from jaxsci.active.protocol import Answer, Learner, Oracle, OracleError, Prospect, Request
from jaxsci.active.stopping import StoppingRule

__all__ = [
    "Answer",
    "Balanced",
    "Campaign",
    "ClassDirected",
    "Committee",
    "Entropy",
    "Entry",
    "ExpectedGain",
    "Learner",
    "Ledger",
    "Oracle",
    "OracleError",
    "Prospect",
    "Random",
    "Request",
    "Situation",
    "StoppingRule",
    "Strategy",
    "mutual_information",
    "predictive_entropy",
    "run_campaign",
]
