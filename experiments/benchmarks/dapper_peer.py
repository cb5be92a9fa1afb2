"""DAPPER's own runs of the same cases: `python dapper_peer.py`, cases as JSON on stdin, a line of JSON for each run.

Runs under an interpreter that has `dapper` (Python 3.12 or later) and needs nothing of jaxsci. Input: a list of
`{"name", "system", "observe_every", "class", "arguments", "cycles", "seeds"}`; output, as each run ends:
`{"name", "seed", "rmse", "seconds_per_cycle"}`.
"""

import importlib
import json
import sys
import time
import warnings
from typing import Any

import numpy as np

SETTINGS = {"lorenz96": "dapper.mods.Lorenz96.sakov2008", "lorenz63": "dapper.mods.Lorenz63.sakov2012"}


class IndexedTwice:
    """`Var4D` indexes the observation operator by time, then again: IndexError in 1.7.1 and 1.8.1. This allows it."""

    def __init__(self, operator: Any):
        self.operator = operator

    def __call__(self, x: Any) -> Any:
        return self if not hasattr(x, "__len__") else self.operator(x)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.operator, name)


def run(case: dict[str, Any], seed: int) -> dict[str, Any]:
    methods = importlib.import_module("dapper.da_methods")
    seeding = importlib.import_module("dapper.tools.seeding")
    model = importlib.import_module(SETTINGS[case["system"]]).HMM.copy()
    model.tseq.dko = case["observe_every"]
    model.tseq.Ko = case["cycles"]
    seeding.set_seed(seed)
    truth, observations = model.simulate()
    arguments = dict(case["arguments"])
    if case["class"] == "Var4D":
        operator = IndexedTwice(model.Obs(0))
        model.Obs = lambda ko: operator
        arguments["B"] = np.diag(np.var(truth, axis=0))
    method = getattr(methods, case["class"])(**arguments)
    begin = time.perf_counter()
    method.assimilate(model, truth, observations, liveplots=False)
    seconds = time.perf_counter() - begin
    burn_in = min(round(model.tseq.BurnIn / model.tseq.dto), case["cycles"] // 2)
    errors = method.stats.err.rms.a[burn_in : case["cycles"]]
    return {
        "name": case["name"],
        "seed": seed,
        "rmse": float(np.mean(errors)),
        "seconds_per_cycle": seconds / case["cycles"],
    }


def main() -> None:
    warnings.simplefilter("ignore")
    vars(importlib.import_module("dapper.tools.progressbar"))["disable_progbar"] = True
    for case in json.load(sys.stdin):
        for seed in range(1, case["seeds"] + 1):
            sys.stdout.write(json.dumps(run(case, seed)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
