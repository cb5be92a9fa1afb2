"""How few stations does it take, and what do dynamics and a second variable add? Assimilation by number of stations."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import weather
from experiments.assimilation_report import METHODS, RIVALS
from jaxsci.assimilation.bootstrap import Interval
from jaxsci.assimilation.scores import Scores, score
from jaxsci.core.config import between, require
from jaxsci.core.figures import new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary


@dataclass(frozen=True, kw_only=True)
class Config(weather.WeatherConfig):
    """With `data.companions` everything is done twice: with the first variable as state, and with all of them.

    `joint_modes` is the number of modes of the second.
    """

    stations: tuple[int, ...] = (5, 10, 25, 50)
    joint_modes: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.stations) > 0 and min(self.stations) > 0, "stations", "numbers above 0", self.stations)
        between(self, "joint_modes", 2, 1000)


class Entry(NamedTuple):
    state: str
    """"alone" or "joint"."""
    stations: int
    scores: Scores

    @property
    def ending(self) -> str:
        """Of the names of its metrics."""
        return f"_{self.stations}" + ("_joint" if self.state == "joint" else "")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    states = {"alone": replace(config, data=replace(config.data, companions=()))}
    if config.data.companions:
        states["joint"] = replace(config, modes=config.joint_modes)
    entries: list[Entry] = []
    seconds: dict[str, float] = {}
    names = []
    with progress(len(states) * len(config.stations), "networks of stations") as steps:
        for state, settings in states.items():
            reduced = weather.load(settings, max(config.stations))
            emulators = weather.train(settings, reduced, run, seconds)
            names.append(f"{state}: {settings.modes} modes hold {100 * reduced.joint.captured:.1f} % of the variance, "
                         f"emulator {emulators.chosen}")  # fmt: skip
            for stations in config.stations:
                analysing = weather.analyser(settings, stations, reduced, emulators)
                analyses, truth = weather.assimilate(settings, analysing, reduced, seconds)
                scores = score(reduced, emulators.linear, emulators.used, analyses, jnp.asarray(truth), settings.leads)
                entries.append(Entry(state, stations, scores))
                run.log({"rmse_analysis": scores.analysis, "rmse_oi": scores.interpolated}, len(entries))
                steps.update(stage=f"{state}, {stations} stations: {scores.analysis:.1f}, OI {scores.interpolated:.1f}")
    return _summary(config, entries, names, seconds), _report(config, run, entries)


def _summary(config: Config, entries: list[Entry], names: list[str], seconds: dict[str, float]) -> Summary:
    metrics: dict[str, float] = {}
    references: dict[str, Reference] = {}
    notes = []
    for entry in entries:
        ending, scores = entry.ending, entry.scores
        metrics |= {
            f"rmse_analysis_m{ending}": scores.analysis,
            f"rmse_oi_m{ending}": scores.interpolated,
            f"rmse_kalman_m{ending}": scores.filtered,
            f"coverage_90{ending}": scores.coverage_90,
        }
        references[f"rmse_analysis_m{ending}"] = Reference(scores.interpolated, "optimal interpolation", "lower")
        for lead in range(1, config.leads + 1):
            for name in ("forecast", "oi", "kalman"):
                metrics[f"rmse_{name}_m_day{lead}{ending}"] = scores.rmse[name][lead - 1]
        for lead, gain in enumerate(scores.gains["oi"]):
            when = "analysis" if lead == 0 else f"day{lead}"
            for part, value in zip(("", "_low", "_high"), gain, strict=True):
                metrics[f"gain_over_oi_m_{when}{part}{ending}"] = value
        notes += [f"{_title(entry)}: {sentence}" for sentence in _verdicts(scores)]
    notes += [f"{name}." for name in names]
    notes.append("Names ending in _joint belong to the state of all variables; scores are of the first variable.")
    return Summary("stations", metrics, references, seconds, tuple(notes))


def _verdicts(scores: Scores) -> list[str]:
    """Where 4D-Var does not beat a rival beyond what the test days can tell."""
    said = []
    for rival, gains in scores.gains.items():
        beaten = [lead for lead, gain in enumerate(gains) if gain.low > 0]
        where = ", ".join("the analysis" if lead == 0 else f"day {lead}" for lead in beaten) or "nothing"
        said.append(f"4D-Var is better than {RIVALS[rival]}, beyond the 95 % interval, at {where}.")
    return said


def _title(entry: Entry) -> str:
    return f"{entry.stations} stations, {'all variables' if entry.state == 'joint' else 'first variable alone'}"


def _report(config: Config, run: Run, entries: list[Entry]) -> Report:
    page = Report(
        "How few stations does it take?",
        f"Analysis and forecast error against the number of stations, for optimal interpolation, a Kalman filter on "
        f"the linear model, and emulator-assisted 4D-Var. Means over {config.networks} random networks and the test "
        f"days; noise {config.noise_std:g}.",
    )
    page.figure(
        "rmse_by_stations",
        run.figure("rmse_by_stations", draw_rmse(entries)),
        "Solid: the first variable alone is the state. Dashed: all variables are, and stations report those that have "
        "a noise. Scores are of the first variable in both.",
    )
    page.figure(
        "gains_by_lead",
        run.figure("gains_by_lead", draw_gains(entries)),
        "RMSE of optimal interpolation less that of 4D-Var: above zero 4D-Var is better. Bars: central 95 % of 2000 "
        "block bootstraps over the test days.",
    )
    leads = range(1, config.leads + 1)
    page.table(
        "RMSE",
        ("stations", "state", "method", "analysis", *(f"day {lead}" for lead in leads)),
        [
            (entry.stations, entry.state, METHODS[name][0], *(_shown(i) for i in entry.scores.intervals[name]))
            for entry in entries
            for name in ("oi", "kalman", "forecast")
        ],
        caption="With the central 95 % of 2000 block bootstraps over the test days, in the unit of the field.",
    )
    page.text("\n\n".join(f"{_title(e)}: {' '.join(_verdicts(e.scores))}" for e in entries), "Where 4D-Var is better")
    return page


def _shown(interval: Interval) -> str:
    return f"{interval.value:.2f} ({interval.low:.1f} to {interval.high:.1f})"


@style()
def draw_rmse(entries: list[Entry]) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.6))
    for state, dashes in (("alone", "-"), ("joint", "--")):
        shown = [entry for entry in entries if entry.state == state]
        for name in ("oi", "kalman", "forecast") if shown else ():
            label, colour, _ = METHODS[name]
            mark = {"color": colour, "marker": "o", "markersize": 4}
            if name == "kalman":  # 4D-Var lies upon it
                mark = {"color": colour, "marker": "o", "markersize": 9, "markerfacecolor": "none", "linewidth": 0}
            label = label if state == "alone" else f"{label}, all variables"
            for lead, axis in enumerate(axes[0]):
                values = [entry.scores.intervals[name][lead].value for entry in shown]
                axis.plot([e.stations for e in shown], values, dashes, **mark, label=label)
    for axis, title in zip(axes[0], ("analysis", "forecast, day 1"), strict=True):
        counts = sorted({entry.stations for entry in entries})
        axis.set(title=title, xlabel="stations", ylabel="RMSE (m)", xscale="log", ylim=(0, None))
        axis.set_xticks(counts, [str(count) for count in counts], minor=False)
        axis.set_xticks([], minor=True)
    axes[0, 1].legend(loc="lower left", fontsize=8, handlelength=3.5)
    return figure


@style()
def draw_gains(entries: list[Entry]) -> Figure:
    states = list(dict.fromkeys(entry.state for entry in entries))
    figure, axes = new_figure(1, len(states), (5.6 * len(states), 4.2))
    for axis, state in zip(axes[0], states, strict=True):
        shown = [entry for entry in entries if entry.state == state]
        for index, entry in enumerate(shown):
            gains = entry.scores.gains["oi"]
            middle = np.array([gain.value for gain in gains])
            reach = np.array([(gain.value - gain.low, gain.high - gain.value) for gain in gains]).T
            place = np.arange(len(gains)) + 0.12 * (index - (len(shown) - 1) / 2)
            axis.errorbar(place, middle, reach, fmt="o", markersize=4, capsize=3, label=f"{entry.stations} stations")
        axis.axhline(0.0, color="0.4", linestyle="--", linewidth=1)
        axis.set_xticks(range(len(gains)), ["analysis", *map(str, range(1, len(gains)))])
        axis.set(title="first variable alone" if state == "alone" else "all variables", xlabel="lead (days)")
    limits = np.array([axis.get_ylim() for axis in axes[0]])
    for axis in axes[0]:
        axis.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    axes[0, 0].set_ylabel("RMSE of OI less that of 4D-Var (m)")
    axes[0, 0].legend(fontsize=9)
    return figure
