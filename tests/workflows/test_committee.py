import jax
import numpy as np

from jaxsci.active import Committee, Prospect, Situation
from jaxsci.workflows.committee import CommitteeConfig, committee_probabilities, fit_committee
from jaxsci.workflows.requests import request_for
from jaxsci.workflows.worker_features import WIDTH

CONFIG = CommitteeConfig(members=3, width=4, steps=5, batch=8)


def between_requests(rows: int) -> None:
    """What a campaign does that knows so many workers: fit, predict, weigh."""
    rng = np.random.default_rng(rows)
    x, y = rng.standard_normal((rows, WIDTH)).astype(np.float32), rng.integers(0, 2, rows)
    committee = fit_committee(x, y, np.arange(rows) // 5, 2, CONFIG, key=jax.random.key(rows))
    prospect = Prospect(committee_probabilities(committee, x), float(rows), None)
    request = request_for("any", "normal", n_runs=1)
    Committee().utilities(Situation([request], [prospect], [1.0], {}), key=jax.random.key(0))


def test_a_campaign_compiles_nothing_for_every_number_of_workers(caplog):
    """Thousands of small programs would take all memory maps that a process may have, and end it."""

    def compiled(rows):
        caplog.clear()
        with jax.log_compiles():
            between_requests(rows)
        return [record for record in caplog.records if record.message.startswith("Compiling")]

    assert compiled(100)
    assert not compiled(97)
