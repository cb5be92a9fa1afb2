"""What a sweep was worth: default and tuned on the same unseen seeds, in the direction of the objective."""

import numpy as np
import pytest

from jaxsci.core.errors import DataError
from jaxsci.core.rundir import Run
from jaxsci.racing import sweep_verdict
from jaxsci.racing.baselines import RandomSearch, random_search
from jaxsci.racing.log import RunLog
from jaxsci.racing.race import Rules
from jaxsci.racing.space import Categorical, Real, Space
from jaxsci.racing.targets.function import FunctionTarget

SPACE = Space((Real("x", low=0.01, high=1.0, log=True), Categorical("rule", values=("good", "bad"))))
DEFAULTS = {"x": 1.0, "rule": "bad"}


def cost(configuration, instance, seed):
    setting = DEFAULTS | dict(configuration)
    noise = np.random.default_rng(seed).normal()
    return abs(np.log(setting["x"] / 0.1)) + (setting["rule"] == "bad") + 0.5 * noise


def tuned(sign):
    target = FunctionTarget(lambda *job: sign * cost(*job), ["only"])
    options = RandomSearch(60, rules=Rules(first_test=3), blocks=6)
    return target, random_search(SPACE, target, options, seed=1, log=RunLog(None, {}))


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["minimise", "maximise"])
def test_the_gain_is_what_the_default_loses_on_the_same_seeds(sign, tmp_path):
    """The noise of a seed is common to both, so the gain is exact; `cost` is what has to be small."""
    target, tuning = tuned(1.0)
    log = RunLog(tmp_path / "test_runs.jsonl", {})
    verdict = sweep_verdict.judge(target, tuning.best, 7, sign, seed=0, log=log)
    log.close()
    expected = cost({}, "only", 5) - cost(tuning.best, "only", 5)
    np.testing.assert_allclose(sign * (verdict.default - verdict.tuned), expected)
    assert len(verdict.default) == 7 and verdict.rejected == 0 and expected > 0
    summary = sweep_verdict.summarise(tuning, verdict, "loss", sign, DEFAULTS)
    assert summary.metrics["gain"] == pytest.approx(expected)
    assert summary.metrics["gain_low"] == pytest.approx(expected) == summary.metrics["gain_high"]
    assert summary.references["loss_tuned"].met(summary.metrics["loss_tuned"])
    assert "better" in summary.notes[-1]
    with Run(tmp_path / "sweep", {}, trackers=()) as run:
        run.finish(summary, sweep_verdict.report(run, tuning, verdict, "loss", sign, DEFAULTS))
    assert "Default: x=1" in (tmp_path / "sweep" / "report.html").read_text()


def test_known_runs_are_not_asked_again_and_failed_blocks_are_left_out(tmp_path):
    _, tuning = tuned(1.0)
    asked = []

    def sometimes(configuration, instance, seed):
        asked.append(seed)
        return float("nan") if seed % 2 else cost(configuration, instance, seed)

    target = FunctionTarget(sometimes, ["only"])
    found = []
    for _ in range(2):
        log = RunLog(tmp_path / "test_runs.jsonl", {})
        found.append(sweep_verdict.judge(target, tuning.best, 8, 1.0, seed=0, log=log))
        log.close()
    assert len(asked) == 16
    np.testing.assert_array_equal(found[0].default, found[1].default)
    assert found[0].rejected == sum(seed % 2 for seed in asked[:8]) and found[0].rejected + len(found[0].tuned) == 8
    with pytest.raises(DataError, match="test_seeds"):
        failing = FunctionTarget(lambda *_: float("nan"), ["only"])
        sweep_verdict.judge(failing, tuning.best, 2, 1.0, seed=0, log=RunLog(None, {}))
