"""What a sweep was worth: the default and the tuned configuration on seeds that no race has seen, and a report."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from jaxsci.core.errors import DataError
from jaxsci.core.figures import AMBER, BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.racing.log import RunLog
from jaxsci.racing.space import Parameter
from jaxsci.racing.targets.protocol import REJECTED, Job, Target
from jaxsci.racing.tuning import Tuning

RESAMPLES = 5000
Defaults = Mapping[str, Any]


class Verdict(NamedTuple):
    """The metric on blocks (instance, seed) unseen by the race, block by block."""

    default: Float[np.ndarray, " blocks"]
    tuned: Float[np.ndarray, " blocks"]
    rejected: int
    """Blocks left out because a run failed on them."""


def judge(target: Target, best: Mapping[str, Any], count: int, sign: float, *, seed: int, log: RunLog) -> Verdict:
    """Run the default (an empty configuration) and `best` on `count` fresh seeds of every instance; the log answers
    what it knows. Raises `DataError` where not one block has both.
    """
    seeds = [int(s) for s in np.random.default_rng([seed, 11]).integers(1, 2**31 - 1, count)]
    jobs = [
        Job(number, configuration, instance, one)
        for number, configuration in enumerate(({}, dict(best)))
        for instance in target.instances
        for one in seeds
    ]
    asked = [job for job in jobs if log.known(job) is None]
    for job in asked:  # one at a time, so that a kill loses one
        (outcome,) = target([job])
        log.record([job], [outcome if np.isfinite(outcome.cost) else outcome._replace(cost=REJECTED)])
    costs = np.array([outcome.cost for job in jobs if (outcome := log.known(job)) is not None]).reshape(2, -1)
    sound = np.isfinite(costs).all(axis=0)
    if not sound.any():
        raise DataError("hydra.sweeper.test_seeds: every run on them failed; run one by hand to see why")
    default, tuned = sign * costs[:, sound]
    return Verdict(default, tuned, int((~sound).sum()))


def summarise(tuning: Tuning, verdict: Verdict, objective: str, sign: float, defaults: Defaults) -> Summary:
    """Means, and the gain with the central 95 % of a bootstrap over blocks, positive where tuning helped."""
    gain = sign * (verdict.default - verdict.tuned)
    draws = np.random.default_rng(0).integers(len(gain), size=(RESAMPLES, len(gain)))
    low, high = np.quantile(gain[draws].mean(axis=1), (0.025, 0.975))
    default = float(verdict.default.mean())
    metrics: dict[str, float] = {
        f"{objective}_tuned": float(verdict.tuned.mean()),
        f"{objective}_default": default,
        "gain": float(gain.mean()),
        "gain_low": float(low),
        "gain_high": float(high),
        "share_of_blocks_better": float(np.mean(gain > 0)),
        "test_blocks": len(gain),
        "test_blocks_rejected": verdict.rejected,
        "runs": tuning.ledger.used,
        "configurations": len(tuning.ledger.configurations),
    }
    metrics |= {f"tuned_{name}": float(v) for name, v in tuning.best.items() if isinstance(v, int | float)}
    found = ", ".join(f"{name}={shown(value)}" for name, value in tuning.best.items())
    before = ", ".join(f"{name}={shown(defaults.get(name))}" for name in tuning.best)
    better = "lower" if sign > 0 else "higher"
    distinct = low > 0 or high < 0
    notes = (
        f"Tuned: {found}. Default: {before}.",
        f"{tuning.result[0].upper()}{tuning.result[1:]}.",
        f"The tuned configuration is {'better' if low > 0 else 'worse' if high < 0 else 'not distinguishable'}"
        f"{'' if distinct else ' from the default'} on {len(gain)} blocks that the race has not seen.",
    )
    reference = Reference(default, "the default configuration, same unseen seeds", better)
    return Summary("sweep", metrics, {f"{objective}_tuned": reference}, {}, notes)


def report(
    run: Run,
    tuning: Tuning,
    verdict: Verdict,
    objective: str,
    sign: float,
    defaults: Defaults,
) -> Report:
    """Figures go to the run directory and into the page."""
    page = Report(
        f"Sweep: {objective} by racing",
        f"Which {', '.join(tuning.space.names)} is best over seeds, and what is that worth on seeds no race has seen?",
    )
    page.figure(
        "verdict",
        run.figure("verdict", draw_verdict(verdict, objective)),
        "Each point is a fresh seed (and instance), run with the default and with the tuned configuration.",
    )
    page.figure(
        "search",
        run.figure("search", draw_search(tuning, objective, sign, defaults)),
        "Every configuration that was run: its value against its mean over the blocks it has seen; the darker, the "
        "more blocks.",
    )
    rows: list[tuple[int | str, ...]] = [
        (rank, *(shown(tuning.ledger.configurations[n].get(name)) for name in tuning.space.names))
        for rank, n in enumerate(tuning.elites[:5], 1)
    ]
    rows.append(("default", *(shown(defaults.get(name)) for name in tuning.space.names)))
    return page.table("Configurations", ("rank", *tuning.space.names), rows)


@style()
def draw_verdict(verdict: Verdict, objective: str) -> Figure:
    figure, axes = new_figure(1, 1, (5.4, 5))
    axis = axes[0, 0]
    both = np.concatenate([verdict.default, verdict.tuned])
    room = 0.05 * max(float(np.ptp(both)), 1e-12)
    low, high = both.min() - room, both.max() + room
    axis.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1)
    axis.plot(verdict.default, verdict.tuned, "o", color=BLUE, markersize=5)
    axis.set(
        xlabel=f"{objective}, default",
        ylabel=f"{objective}, tuned",
        title=f"mean {verdict.default.mean():.4g} to {verdict.tuned.mean():.4g}",
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
    )
    return figure


@style()
def draw_search(tuning: Tuning, objective: str, sign: float, defaults: Defaults) -> Figure:
    ledger, parameters = tuning.ledger, tuning.space.parameters
    seen: dict[int, list[float]] = {}
    for (number, _block), cost in ledger.costs.items():
        if np.isfinite(cost):
            seen.setdefault(number, []).append(sign * cost)
    most = max(len(costs) for costs in seen.values())
    figure, axes = new_figure(1, len(parameters), (min(4.2 * len(parameters) + 0.6, 14), 3.8))
    for axis, parameter in zip(axes[0], parameters, strict=True):
        places = {number: _place(parameter, ledger.configurations[number][parameter.name]) for number in seen}
        for number, costs in seen.items():
            shade = 0.15 + 0.85 * len(costs) / most
            axis.plot(places[number], np.mean(costs), "o", color=BLUE, alpha=shade, markersize=5)
        axis.axvline(places[tuning.number], color=ORANGE, label="tuned")
        default = defaults.get(parameter.name)
        if default is not None:
            axis.axvline(_place(parameter, default), color=AMBER, linestyle="--", label="default")
        if getattr(parameter, "log", False):
            axis.set_xscale("log")
        values = getattr(parameter, "values", None)
        if values is not None:
            axis.set_xticks(range(len(values)), [str(value) for value in values])
        axis.set_xlabel(parameter.name)
    axes[0, 0].set_ylabel(objective)
    axes[0, 0].legend()
    return figure


def _place(parameter: Parameter, value: Any) -> float:
    values = getattr(parameter, "values", None)
    if values is None:
        return float(value)
    names = [str(v) for v in values]
    return float(names.index(str(value))) if str(value) in names else float("nan")


def shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
