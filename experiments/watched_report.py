"""The pages of `experiment=watched`: what was watched, when the alarm came, when the change did."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.watched_innovations import NAMES, Found, InnovationsConfig, first_alarms
from experiments.watched_training import TrainingConfig, Watched
from jaxsci.core.figures import AMBER, BLUE, COLOURS, GREEN, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run

WORDS = {
    "detector": "changepoint detector",
    "chi_square": "chi-square threshold",
    "chi_square_mean": "threshold on its running mean",
    "both_means": "threshold on running means of both",
}


def innovations_page(config: InnovationsConfig, run: Run, found: Found, metrics: dict[str, float]) -> Report:
    page = Report(
        "An assimilation that notices when its world has changed",
        f"{config.method.kind} on {config.system.kind}: at cycle {config.change} the observing system or the truth "
        f"changes. How many cycles until somebody says so, and what? {config.seeds} truths a scenario.",
    )
    page.figure(
        "series",
        run.figure("series", series_figure(config, found)),
        "One seed of each scenario. Shift: what all stations differ by together; scatter: the rest of the chi-square, "
        "both in standard deviations of a calm filter (averages over five cycles). Black: the change. Orange: the "
        f"detector's alarms. Below, the evidence it goes by; in the first {config.window} cycles all is recent.",
    )
    page.figure(
        "delays",
        run.figure("delays", delays_figure(config, found)),
        "Share of the seeds for which a rule has raised its alarm so many cycles after the change; all rules raise as "
        "many false ones, within the sampling error given in the table.",
    )
    rows = []
    for rule in found.rules:
        end = "" if rule == "detector" else f"_{rule}"
        cells = (
            f"{metrics[f'detection_delay_{name}{end}']:.1f} ({100 * metrics[f'detected_fraction_{name}{end}']:.0f} %)"
            for name in config.scenarios
        )
        rows.append((WORDS[rule], metrics[f"false_alarms_per_1000{end}"], *cells))
    page.table(
        "Who notices when",
        ("rule", "false alarms per 1000", *config.scenarios),
        rows,
        caption=f"Mean delay in cycles ({config.horizon} where there was no alarm), and share of seeds with an alarm.",
    )
    page.table(
        "What it says",
        ("scenario", "what changed", "says mean", "says variance", "misplaces the change by (cycles)", "error grew by"),
        [
            (
                name,
                _told(scenario),
                metrics[f"said_mean_fraction_{name}"],
                1 - metrics[f"said_mean_fraction_{name}"],
                metrics[f"start_error_{name}"],
                metrics[f"rmse_after_over_before_{name}"],
            )
            for name, scenario in config.scenarios.items()
        ],
        caption="Share of the detected changes; the verdict is the larger of two Bayes factors, at the alarm.",
    )
    return page


def _told(scenario) -> str:
    parts = [f"bias of {scenario.bias:g} standard deviations"] if scenario.bias else []
    parts += [f"errors {scenario.noise:g} times as large"] if scenario.noise != 1 else []
    parts += [f"{name} {value:g}" for name, value in scenario.model.items()]
    return ", ".join(parts) or "nothing"


@style()
def series_figure(config: InnovationsConfig, found: Found) -> Figure:
    count = len(config.scenarios)
    figure, axes = new_figure(3, count, (4.2 * count, 6.4))
    first = first_alarms(found.rules["detector"][1].alarm, config)
    for column, name in enumerate(config.scenarios):
        seed = _typical(first[column], config)
        statistics = found.degraded.innovation
        for row, (values, label) in enumerate(((statistics.shift, "shift"), (statistics.scatter, "scatter"))):
            axis = axes[row, column]
            shown = np.asarray(values)[column, seed]
            axis.plot(shown, ".", color=GREY, markersize=2, alpha=0.6)
            axis.plot(_smooth(shown), color=(BLUE, GREEN)[row], linewidth=1.2)
            axis.set(ylim=_limits(shown))
            if column == 0:
                axis.set(ylabel=f"{label} ({NAMES[row]})")
        alarms = found.rules["detector"][1]
        axes[2, column].plot(alarms.statistic[column, seed], color=BLUE, linewidth=1.2)
        axes[2, column].axhline(alarms.threshold, color=GREY, linestyle=":")
        axes[2, column].set(xlabel="cycle", ylim=(0, 1.05))
        for axis in axes[:, column]:
            _mark(axis, config.change, np.flatnonzero(alarms.alarm[column, seed]))
        axes[0, column].set_title(name)
    axes[2, 0].set_ylabel("P(recent change)")
    return figure


def _typical(first: np.ndarray, config: InnovationsConfig) -> int:
    """The seed of median delay, those without an alarm last."""
    delay = np.where(first < 0, config.horizon + 1, first)
    return int(np.argsort(delay, kind="stable")[len(delay) // 2])


def _smooth(values: np.ndarray, of: int = 5) -> np.ndarray:
    kernel = np.ones(min(of, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [0.5, 99.5])
    return min(low, -4.0) - 0.5, max(high, 4.0) + 0.5


def _mark(axis: Axes, change: int, alarms: np.ndarray) -> None:
    axis.axvline(change, color="black", linewidth=1.2)
    for alarm in alarms:
        axis.axvline(alarm, color=ORANGE, linestyle="--", linewidth=1.2)


@style()
def delays_figure(config: InnovationsConfig, found: Found) -> Figure:
    count = len(config.scenarios)
    figure, axes = new_figure(1, count, (4.2 * count, 3.8))
    cycles = np.arange(config.horizon + 1)
    for column, name in enumerate(config.scenarios):
        for (rule, (_, degraded)), colour in zip(found.rules.items(), COLOURS, strict=False):
            first = first_alarms(degraded.alarm[column], config)
            share = [np.mean((first >= 0) & (first - config.change <= n)) for n in cycles]
            width = 2.2 if rule == "detector" else 1.3
            axes[0, column].step(cycles, share, where="post", color=colour, linewidth=width, label=WORDS[rule])
        axes[0, column].set(title=name, xlabel="cycles since the change", ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("share of seeds with an alarm")
    axes[0, -1].legend(loc="lower right", fontsize=8)
    return figure


def training_page(config: TrainingConfig, run: Run, found: Watched) -> Report:
    page = Report(
        "A training that is slowed down, watched while it runs",
        f"{' '.join(config.arguments)}: from point {found.change} on it has the processor for "
        f"{100 * config.running:g} % of the time. When does the detector say so?",
    )
    page.figure(
        "training",
        run.figure("training", training_figure(config, found)),
        "Step time of every dispatch as the training logged it. Black: the first stop. Orange: alarms. Amber: where "
        "the training's own rule (three running medians) counts a dispatch as slow.",
    )
    rows = [
        (alarm, float(found.step[alarm]), start, "false" if alarm < found.change else "after the change")
        for alarm, start in zip(found.alarms, found.starts, strict=True)
    ]
    page.table("Alarms", ("point", "training step", "thinks the change was at point", "verdict"), rows)
    return page


@style()
def training_figure(config: TrainingConfig, found: Watched) -> Figure:
    figure, axes = new_figure(2, 1, (9, 5.4))
    above, below = axes[:, 0]
    points = np.arange(len(found.step))
    above.plot(points, 1e3 * found.seconds, ".", color=BLUE, markersize=4)
    for part in (slice(0, found.change), slice(found.change, None)):
        middle = 1e3 * np.median(found.seconds[part])
        above.plot(points[part], np.full(len(points[part]), middle), color=GREEN, linewidth=1.5)
    slow = np.flatnonzero(np.diff(found.rule, prepend=found.rule[:1]) > 0)
    above.plot(slow, 1e3 * found.seconds[slow], "o", color=AMBER, fillstyle="none", markersize=8)
    above.set(ylabel="step time (ms)", yscale="log")
    below.plot(points, found.mass, color=BLUE, linewidth=1.2)
    below.axhline(config.detector.threshold, color=GREY, linestyle=":")
    below.set(xlabel="points (dispatches)", ylabel="P(recent change)", ylim=(0, 1.05))
    for axis in (above, below):
        _mark(axis, found.change, np.array(found.alarms, int))
    return figure
