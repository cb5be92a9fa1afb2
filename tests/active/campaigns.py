"""A world small enough to reason about: two kinds of coin, one of which is never in doubt."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.active import Answer, OracleError, Prospect, Request


@dataclass(frozen=True)
class Toss(Request):
    coin: str
    times: int = 4

    @property
    def group(self) -> str:
        return self.coin


class Mint:
    """Tosses coins; the biased one is dear. `broken` coins are refused."""

    unit = "seconds"

    def __init__(self, coins=("fair", "biased"), broken=()):
        self.coins, self.broken = coins, broken
        self.submitted: list[Toss] = []

    def requests(self) -> Sequence[Toss]:
        return [Toss(coin) for coin in self.coins]

    def cost(self, request: Toss) -> float:
        return {"fair": 1.0, "biased": 5.0}.get(request.coin, 2.0)

    def submit(self, request, *, key):
        self.submitted.append(request)
        if request.coin in self.broken:
            raise OracleError(f"no {request.coin} coin here")
        seed = int(jax.random.randint(key, (), 0, 2**30))
        return Answer(self.recall(request, {"seed": seed}), self.cost(request), {"seed": seed})

    def recall(self, request, receipt):
        heads = {"fair": 0.5, "biased": 0.9}.get(request.coin, 0.3)
        return request.coin, np.random.default_rng(receipt["seed"]).random(request.times) < heads


class Counter:
    """Estimates each coin by its frequency; with `warm`, by adding to what it knew."""

    def __init__(self, coins=("fair", "biased"), warm=False, die_at=None):
        self.coins, self.warm, self.die_at, self.fits = coins, warm, die_at, 0

    def initial(self, *, key):
        return {"heads": jnp.zeros(len(self.coins)), "tosses": jnp.zeros(len(self.coins)), "noise": jnp.zeros(())}

    def fit(self, model, data, *, key):
        self.fits += 1
        if self.fits == self.die_at:
            raise KeyboardInterrupt
        model = model if self.warm else self.initial(key=key)
        for coin, heads in data[-1:] if self.warm else data:
            i = self.coins.index(coin)
            model = {
                "heads": model["heads"].at[i].add(heads.sum()),
                "tosses": model["tosses"].at[i].add(len(heads)),
                "noise": jax.random.uniform(key),
            }
        return model

    def prospects(self, model, data, requests):
        known = []
        for request in requests:
            tosses = float(model["tosses"][self.coins.index(request.coin)])
            if not tosses:
                known.append(Prospect(None))
                continue
            spread = 0.4 / np.sqrt(tosses)
            members = jnp.array([[[0.5 - spread, 0.5 + spread]], [[0.5 + spread, 0.5 - spread]]])
            known.append(Prospect(members, float(request.times), loss=1.0 / tosses))
        return known

    def scores(self, model):
        return {"tosses": float(model["tosses"].sum()), "noise": float(model["noise"])}
