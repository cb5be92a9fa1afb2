"""The report of the comparison of tuners: a table with intervals, distributions, and differences from ours."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.benchmarks.racing_peers import Answer
from jaxsci.core.figures import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary

if TYPE_CHECKING:
    from experiments.benchmarks.racing_vs_peers import Config, Judged

LABELS = {
    "ours": "jaxsci racing",
    "irace": "irace 3.5",
    "optuna": "Optuna TPE + Wilcoxon",
    "smac": "SMAC3",
    "random": "random + one F-race",
}
COLOURS = {"ours": BLUE, "irace": ORANGE, "optuna": GREEN, "smac": PURPLE, "random": SKY}


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def report(
    run: Run,
    config: "Config",
    answers: dict[str, list[Answer]],
    judged: "Judged",
    summary: Summary,
    counts: tuple[int, int],
) -> Report:
    page = Report(
        "Racing beside irace, Optuna, SMAC3 and random search",
        f"Which tuner finds the better parameters of annealing and tabu search for quadratic assignment with "
        f"{config.budget} target runs? {config.repetitions} tunings each on {counts[0]} training instances, judged on "
        f"{counts[1]} others with {config.test_seeds} fresh seeds.",
    )
    page.figure(
        "gaps",
        run.figure("gaps", draw_gaps(judged)),
        "Left: each dot is one tuning, the bar its mean with a 95 % interval, dashed the default configuration. Right: "
        "difference of each repetition from ours, above zero where ours is better.",
    )
    rows = []
    for name in config.tuners:
        low, high = interval(judged.test[name])
        rows.append(
            (
                LABELS[name],
                float(judged.test[name].mean()),
                f"{low:.3f} to {high:.3f}",
                float(judged.train[name].mean()),
                summary.metrics[f"rank_{name}"],
                summary.metrics[f"share_better_than_default_{name}"],
                summary.metrics.get(f"p_value_ours_vs_{name}"),
                summary.metrics[f"runs_{name}"],
                float(np.median([a.seconds - a.target_seconds for a in answers[name]])),
            )
        )
    rows.append(("defaults", judged.default, "", None, None, None, None, 0, None))
    page.table(
        "Tuners",
        (
            "tuner",
            "test gap (%)",
            "95 % interval",
            "training gap (%)",
            "mean rank",
            "beat the default",
            "p vs ours",
            "runs",
            "own time (s)",
        ),
        rows,
        caption="p: paired Wilcoxon over repetitions, Holm. Own time: median of a tuning without its target.",
    )
    chosen = answers["ours"][int(np.argmin(judged.test["ours"]))].configuration
    page.table("Our best tuning", ("parameter", "value"), [(k, str(v)) for k, v in chosen.items() if v is not None])
    return page


@style()
def draw_gaps(judged: "Judged") -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.6))
    left, right = axes[0]
    names = list(judged.test)
    rng = np.random.default_rng(0)
    for place, name in enumerate(names):
        values, colour = judged.test[name], COLOURS[name]
        left.scatter(place + rng.uniform(-0.15, 0.15, len(values)), values, s=16, color=colour, alpha=0.6)
        low, high = interval(values)
        mean = values.mean()
        left.errorbar(place + 0.3, mean, [[mean - low], [high - mean]], color=colour, marker="s", capsize=4, lw=2)
    left.axhline(judged.default, color=AMBER, linestyle="--", label="default")
    left.set_xticks(range(len(names)), [LABELS[n].replace(" ", "\n", 1) for n in names], fontsize=9)
    left.set(ylabel="gap to best known on test instances (%)", title="Every tuning")
    left.legend()
    others = [n for n in names if n != "ours"]
    differences = [judged.test[n] - judged.test["ours"] for n in others]
    if others:
        boxes = right.boxplot(differences, widths=0.5, patch_artist=True, medianprops={"color": "black"})
        for box, name in zip(boxes["boxes"], others, strict=True):
            box.set(facecolor=COLOURS[name], alpha=0.6)
        right.set_xticks(range(1, len(others) + 1), [LABELS[n].replace(" ", "\n", 1) for n in others], fontsize=9)
    right.axhline(0.0, color=GREY, linewidth=1)
    right.set(ylabel="its gap - ours, same repetition (%)", title="Against ours")
    return figure
