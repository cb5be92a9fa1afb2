"""When a campaign has learned enough, or spent enough."""

from dataclasses import dataclass

from jaxsci.active.ledger import Ledger
from jaxsci.active.protocol import R
from jaxsci.core.config import positive, require


@dataclass(frozen=True)
class StoppingRule:
    """Whichever of these comes first; `None` switches a criterion off.

    - `requests`: that many, refused ones included.
    - `cost`: that much is spent, in the unit of the oracle.
    - `target`: `score` has reached it.
    - `patience`: `score` has not improved by `tolerance` over its best for that many answers.
    """

    requests: int | None = 30
    cost: float | None = None
    score: str | None = None
    target: float | None = None
    patience: int | None = None
    tolerance: float = 1e-3

    def __post_init__(self):
        positive(self, "requests", "cost", "patience")
        require(self.tolerance >= 0, "tolerance", "0 or more", self.tolerance)
        needs_score = self.target is not None or self.patience is not None
        require(
            not needs_score or self.score is not None, "score", "the name of a score, for target and patience", None
        )

    def reason(self, ledger: Ledger[R]) -> str | None:
        """A sentence that says why to stop here, or `None`."""
        if self.requests is not None and len(ledger.entries) >= self.requests:
            return f"{self.requests} requests were made (requests)"
        if self.cost is not None and ledger.cost() >= self.cost:
            return f"{ledger.cost():.6g} of {self.cost:.6g} are spent (cost)"
        if self.score is None:
            return None
        values = ledger.course(self.score)[1]
        if self.target is not None and len(values) and values[-1] >= self.target:
            return f"{self.score} reached {self.target:g} (target)"
        if self.patience is not None and len(values) > self.patience:
            before, recent = values[: -self.patience].max(), values[-self.patience :].max()
            if recent < before + self.tolerance:
                return f"{self.score} has not improved by {self.tolerance:g} for {self.patience} answers (patience)"
        return None
