"""The report of a tuning: the answer, the races, the curve over runs, what mattered."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from experiments.racing_targets import Tuned
from jaxsci.core.figures import AMBER, BLUE, GREEN, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.racing.importance import Ablation, coordinates
from jaxsci.racing.sampling import is_labels
from jaxsci.racing.space import Categorical, Space
from jaxsci.racing.surrogate import observed
from jaxsci.racing.tuning import Tuning

if TYPE_CHECKING:
    from experiments.racing import Config, Tested

MOST_RACES = 6


def report(
    run: Run,
    config: "Config",
    tuned: Tuned,
    tuning: Tuning,
    tested: "Tested",
    shares: dict[str, float],
    path: list[Ablation],
) -> Report:
    page = Report(
        f"Racing: {config.target.kind} tuned by {config.tuner}",
        f"Which configuration is best on average over instances and seeds, found with {config.budget} target runs?",
    )
    elites = list(tuning.elites[:5])
    rows = [
        (name, *(_shown(tuning.ledger.configurations[n].get(name)) for n in elites), _default(tuned, name))
        for name in tuned.space.names
    ]
    columns = ("parameter", *("best" if i == 0 else f"elite {i + 1}" for i in range(len(elites))), "default")
    page.table("Configurations", columns, rows)
    page.figure(
        "curve",
        run.figure("curve", draw_curve(tested, tuned.unit)),
        "The incumbent after each race, judged afterwards on test instances with fresh seeds.",
    )
    if tuning.races:
        page.figure(
            "races",
            run.figure("races", draw_races(tuning)),
            "One line a configuration, from the first block to the one after which it was dropped (a cross). "
            "Orange: elites of the race before. Thick: the winner.",
        )
    page.figure(
        "importance",
        run.figure("importance", draw_importance(shares, path, tuned.unit)),
        "Left: share of the drop in predicting costs when a parameter is shuffled. Right: from the default to the "
        "best, the most helpful change first; mean cost on the training instances with seeds of its own.",
    )
    page.figure(
        "marginals",
        run.figure("marginals", draw_marginals(tuned.space, tuning)),
        "Every configuration that was run: value against mean cost, blocks centred and scaled. Dark: on more blocks.",
    )
    return page


@style()
def draw_curve(tested: "Tested", unit: str) -> Figure:
    figure, axes = new_figure(1, 1, (8, 4))
    axis = axes[0, 0]
    used, costs = zip(*tested.curve, strict=True)
    axis.step(used, costs, where="post", color=BLUE, marker="o", label="incumbent")
    if tested.default is not None:
        axis.axhline(tested.default, color=AMBER, linestyle="--", label="default")
    axis.set(xlabel="target runs", ylabel=f"test cost ({unit})", xlim=(0, None))
    axis.legend()
    return figure


@style()
def draw_races(tuning: Tuning) -> Figure:
    shown = tuning.races[-MOST_RACES:]
    figure, axes = new_figure(1, len(shown), (min(3.2 * len(shown) + 1, 14), 5))
    for axis, item in zip(axes[0], shown, strict=True):
        outcome, fresh = item.outcome, set(item.candidates)
        end = {n: len(outcome.blocks) for n in outcome.entered}
        for step in outcome.steps:
            end |= dict.fromkeys(step.dropped, step.blocks)
        order = sorted(outcome.entered, key=lambda n: (-end[n], n))
        for place, number in enumerate(order):
            winner = bool(outcome.survivors) and number == outcome.survivors[0]
            colour = BLUE if number in fresh else ORANGE
            axis.plot([0, end[number]], [place, place], color=colour, linewidth=4 if winner else 1.5)
            if number not in outcome.survivors:
                axis.plot(end[number], place, marker="x", color=GREY, markersize=5)
        tests = [s for s in outcome.steps if not np.isnan(s.p)]
        for step in tests:
            axis.axvline(step.blocks, color="0.9", zorder=0)
        axis.set(xlabel="blocks", title=f"{item.label}\n{len(outcome.entered)} to {len(outcome.survivors)}")
        axis.set_yticks([])
        axis.grid(False)
    axes[0, 0].set_ylabel("configurations")
    return figure


@style()
def draw_importance(shares: dict[str, float], path: list[Ablation], unit: str) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4))
    left, right = axes[0]
    names = list(shares)[::-1]
    left.barh(names, [shares[n] for n in names], color=BLUE)
    left.set(xlabel="importance (share)", title="What the cost depends on")
    if len(path) > 1:
        labels = [
            "default",
            *("\n".join(f"{n} = {_shown(v)}" for n, v in zip(s.parameters, s.values, strict=True)) for s in path[1:]),
        ]
        labels = [label if label.count("\n") < 2 else "\n".join([*label.split("\n")[:2], "..."]) for label in labels]
        right.plot([s.cost for s in path], color=GREEN, marker="o")
        right.set_xticks(range(len(path)), labels, rotation=40, ha="right", fontsize=8)
        right.set(ylabel=f"mean cost ({unit})", title="Ablation: default to best")
    else:
        right.axis("off")
        right.text(0.5, 0.5, "no default to start an ablation from", ha="center", transform=right.transAxes)
    return figure


@style()
def draw_marginals(space: Space, tuning: Tuning) -> Figure:
    numbers, means, counts = observed(tuning.ledger)
    unit = coordinates(space, [tuning.ledger.configurations[n] for n in numbers])
    columns = min(4, len(space.parameters))
    rows = -(-len(space.parameters) // columns)
    figure, axes = new_figure(rows, columns, (3.2 * columns, 2.6 * rows))
    shade = 0.15 + 0.85 * counts / counts.max()
    rng = np.random.default_rng(0)
    for axis, (i, parameter) in zip(axes.ravel(), enumerate(space.parameters), strict=False):
        on = unit[:, i] >= 0
        axis.set_title(parameter.name, fontsize=10)
        if not on.any():  # a condition that never held
            axis.text(0.5, 0.5, "never active", ha="center", transform=axis.transAxes)
            axis.set(xticks=[], yticks=[])
            continue
        x = unit[on, i] + (rng.uniform(-0.08, 0.08, on.sum()) if is_labels(parameter) else 0.0)
        axis.scatter(x, means[on], s=10, color=BLUE, alpha=shade[on], linewidths=0)
        best = unit[list(numbers).index(tuning.number), i]
        if best >= 0:
            axis.axvline(best, color=ORANGE, linewidth=1)
        places = np.linspace(0, 1, 3)
        if isinstance(parameter, Categorical):  # ordered or not, a label is the middle of its cell
            labels = parameter.values
            places = (np.arange(len(labels)) + 0.5) / len(labels)
        else:
            labels = [_tick(space, parameter.name, i, place, tuning) for place in places]
        axis.set_xticks(places, labels, fontsize=8)
        axis.set_xlim(-0.05, 1.05)
    for axis in axes.ravel()[len(space.parameters) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("scaled cost", fontsize=9)
    return figure


def _tick(space: Space, name: str, place: int, unit: float, tuning: Tuning) -> str:
    """The value at a unit coordinate, in the domain of the first configuration where the parameter is active."""
    for configuration in tuning.ledger.configurations.values():
        if configuration.get(name) is not None:
            columns = space.columns([configuration])
            return _shown(space.decode(space.parameters[place], np.array([unit]), columns)[0])
    return ""


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _default(tuned: Tuned, name: str) -> str:
    return "" if tuned.default is None else _shown(tuned.default.get(name))
