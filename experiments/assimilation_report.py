"""The report of the assimilation experiment: its tables and pictures."""

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsci.assimilation.daily import DailyAnalyses
from jaxsci.assimilation.scores import Scores
from jaxsci.core.figures import (
    AMBER,
    BLUE,
    DIFFERENCE_MAP,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    new_figure,
    style,
)
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.emulators import ReducedField
from jaxsci.emulators.verification import spread_against_error

if TYPE_CHECKING:
    from experiments.assimilation import Config
    from experiments.weather import Emulators

METHODS = {  # label, colour, dashes
    "climatology": ("climatology", GREY, ":"),
    "persistence": ("persistence*", AMBER, "--"),
    "damped_persistence": ("damped persistence*", PURPLE, "--"),
    "linear": ("two-lag linear model*", SKY, "--"),
    "emulator": ("emulator*", GREEN, "--"),
    "oi": ("OI + emulator", ORANGE, "-"),
    "kalman": ("Kalman filter, linear model", GREEN, "-"),
    "forecast": ("4D-Var + emulator", BLUE, "-"),
}
RIVALS = {"oi": "optimal interpolation", "kalman": "the Kalman filter on the linear model"}
FIRST_NETWORK = 0


def report(
    config: "Config",
    run: Run,
    reduced: ReducedField,
    emulators: "Emulators",
    analyses: DailyAnalyses,
    scores: Scores,
    summary: Summary,
) -> Report:
    """Figures go to the run directory and into the page."""
    days = analyses.state.shape[1]
    truth = reduced.anomalies[reduced.split.test][:days]
    time = reduced.field.time[reduced.split.test][:days]
    page = Report(
        "Weather from a few dozen stations",
        f"How well can the {reduced.field.name} field be known from {config.stations} noisy stations, and how far can "
        f"it be forecast from there? Protocol 'forecast': each analysis sees only the observations of days "
        f"t-{config.window} to t (noise {config.noise_std:g}), is verified against the true field of day t, and its "
        f"forecasts against later days. Everything fitted or chosen comes from before {_day(time[0])}; scores are "
        f"means over {config.networks} random networks and the days {_day(time[0])} to {_day(time[-1])}.",
    )
    case = int(np.argmax(np.mean(reduced.weights * truth**2, axis=1)))
    page.figure(
        "maps",
        run.figure("maps", maps(reduced, analyses, truth, case, _day(time[case]))),
        f"Anomaly from climatology on {_day(time[case])}, the test day furthest from it; dots are the stations of the "
        "first network. The last panel is what 4D-Var believes its own error to be.",
    )
    page.figure(
        "rmse_by_lead",
        run.figure("rmse_by_lead", rmse_by_lead(scores)),
        "Forecast error and anomaly correlation by lead day. Dashed methods, marked *, start from the true field; "
        "solid ones from the stations alone.",
    )
    page.table("Forecast RMSE by lead day", *_lead_table(scores.rmse), caption="In the unit of the field.")
    page.table("Anomaly correlation by lead day", *_lead_table(scores.correlation))
    page.figure(
        "gains",
        run.figure("gains", draw_gains(scores)),
        "RMSE of two rivals less that of 4D-Var, above zero where 4D-Var is better, with the central 95 % of 2000 "
        "block bootstraps over the test days. " + " ".join(verdicts(scores)),
    )
    page.figure(
        "observation_fit",
        run.figure("observation_fit", observation_fit(reduced, analyses, truth, time)),
        "One station through the test span's first 90 days, and how well every window fits: 2J/p is near one where "
        "background and observation covariances are right.",
    )
    page.figure(
        "spread_against_error",
        run.figure("spread_against_error", spread_and_error(reduced, analyses, scores, truth)),
        f"Left: posterior standard deviation against the error made, in bins; on the line, the analysis knows how "
        f"wrong it is (90 % intervals hold {100 * scores.coverage_90:.1f} % of the truth). Right: analysis error of "
        "each network, 4D-Var against optimal interpolation; below the line 4D-Var is better.",
    )
    page.table(
        "Emulators, RMSE from perfect initial states",
        ("emulator", "span", *(f"day {d + 1}" for d in range(config.leads))),
        [
            (name, span, *map(float, emulators.rmse[name][span]))
            for name in emulators.rmse
            for span in ("validation", "test")
        ],
        caption=f"Used: {emulators.chosen} (emulator.choose={config.emulator.choose}).",
    )
    return page.text(_method_text(config, reduced), title="How it is done")


@style()
def maps(reduced: ReducedField, analyses: DailyAnalyses, truth: np.ndarray, case: int, day: str) -> Figure:
    decode = reduced.pod.decode
    analysis = np.asarray(decode(analyses.state[FIRST_NETWORK, case, 0]))
    background = np.asarray(decode(analyses.background[FIRST_NETWORK, case]))
    fields = (truth[case], background, analysis, background - truth[case], analysis - truth[case])
    top, low = np.abs(truth[case]).max(), np.abs(background - truth[case]).max()
    titles = (f"truth, {day}", "background", "4D-Var analysis", "background error", "analysis error")
    figure, axes = new_figure(2, 3, (11, 6.2))
    panels = [axes[0, 0], axes[0, 1], axes[0, 2], axes[1, 0], axes[1, 1]]
    for axis, values, title, limit in zip(panels, fields, titles, (top, top, top, low, low), strict=True):
        image = _map(axis, reduced, values, DIFFERENCE_MAP, (-limit, limit))
        axis.set_title(title)
        if axis in (axes[0, 2], axes[1, 1]):
            figure.colorbar(image, ax=axis, label="m", shrink=0.9)
    stations = np.asarray(analyses.network.stations[FIRST_NETWORK])
    for axis in panels:
        _mark(axis, reduced, stations)
    spread = np.asarray(analyses.spread[FIRST_NETWORK, case])
    image = _map(axes[1, 2], reduced, spread, "viridis", (0, spread.max()))
    _mark(axes[1, 2], reduced, stations)
    axes[1, 2].set_title("posterior standard deviation")
    figure.colorbar(image, ax=axes[1, 2], label="m", shrink=0.9)
    return figure


@style()
def rmse_by_lead(scores: Scores) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.4))
    for name, (label, colour, dashes) in METHODS.items():
        days = np.arange(1, len(scores.rmse[name]) + 1)
        axes[0, 0].plot(days, scores.rmse[name], dashes, color=colour, marker="o", markersize=4, label=label)
        if name != "climatology":
            axes[0, 1].plot(days, scores.correlation[name], dashes, color=colour, marker="o", markersize=4)
    axes[0, 0].plot([0], [scores.interpolated], "s", color=ORANGE)
    axes[0, 0].plot([0], [scores.filtered], "^", color=GREEN)
    axes[0, 0].plot([0], [scores.analysis], "o", color=BLUE)
    axes[0, 0].annotate("analysis", (0, scores.analysis), textcoords="offset points", xytext=(8, -4))
    axes[0, 0].set(xlabel="lead (days)", ylabel="RMSE (m)", title="forecast error", ylim=(0, None))
    axes[0, 1].set(xlabel="lead (days)", ylabel="anomaly correlation", title="anomaly correlation", ylim=(None, 1))
    for axis in axes[0]:
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def verdicts(scores: Scores) -> list[str]:
    """A sentence for each rival: where 4D-Var beats it, where not, and where the test days cannot tell."""
    said = []
    for rival, gains in scores.gains.items():
        kinds: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": []}
        for lead, gain in enumerate(gains):
            kind = "better" if gain.low > 0 else "worse" if gain.high < 0 else "not distinguishable"
            kinds[kind].append("analysis" if lead == 0 else f"day {lead}")
        found = "; ".join(f"{kind}: {', '.join(where)}" for kind, where in kinds.items() if where)
        said.append(f"4D-Var against {RIVALS[rival]} - {found}.")
    if scores.gains["oi"][0].value <= 0:
        said.append("4D-Var's analysis does not beat optimal interpolation's here.")
    behind = [str(lead) for lead, gain in enumerate(scores.gains["oi"]) if lead and gain.value <= 0]
    if behind:
        said.append(f"Forecasts from 4D-Var do not beat those from optimal interpolation at day {', '.join(behind)}.")
    return said


@style()
def draw_gains(scores: Scores) -> Figure:
    figure, axes = new_figure(1, 1, (8, 4.0))
    axis = axes[0, 0]
    for shift, (rival, gains) in zip((-0.08, 0.08), scores.gains.items(), strict=True):
        label, colour, _ = METHODS[rival]
        middle = np.array([gain.value for gain in gains])
        reach = np.array([(gain.value - gain.low, gain.high - gain.value) for gain in gains]).T
        axis.errorbar(np.arange(len(gains)) + shift, middle, reach, fmt="o", color=colour, capsize=4, label=label)
    axis.axhline(0.0, color=GREY, linestyle="--", linewidth=1)
    axis.set_xticks(range(len(scores.gains["oi"])), ["analysis", *map(str, range(1, len(scores.gains["oi"])))])
    axis.set(xlabel="lead (days)", ylabel="rival's RMSE less 4D-Var's (m)", title="what 4D-Var gains")
    axis.legend()
    return figure


@style()
def observation_fit(reduced: ReducedField, analyses: DailyAnalyses, truth: np.ndarray, time: np.ndarray) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.0))
    days = min(90, len(truth))
    station = 0
    point = int(analyses.network.stations[FIRST_NETWORK, station])
    observed = np.asarray(
        analyses.network.values[FIRST_NETWORK, -len(reduced.anomalies[reduced.split.test]) :, station]
    )
    analysis = np.asarray(reduced.pod.decode(analyses.state[FIRST_NETWORK, :days, 0]))[:, point]
    background = np.asarray(reduced.pod.decode(analyses.background[FIRST_NETWORK, :days]))[:, point]
    x = np.arange(days)
    axes[0, 0].plot(x, truth[:days, point], color="black", linewidth=1, label="truth")
    axes[0, 0].plot(x, background, color=GREY, linewidth=1, linestyle="--", label="background")
    axes[0, 0].plot(x, analysis, color=BLUE, label="4D-Var analysis")
    axes[0, 0].plot(x, observed[:days], "o", color=ORANGE, markersize=3, label="observed")
    row, column = divmod(point, len(reduced.field.lon))
    place = f"{reduced.field.lat[row]:g}N {reduced.field.lon[column]:g}E"
    axes[0, 0].set(title=f"anomaly at {place}", xlabel=f"days from {_day(time[0])}", ylabel="m")
    axes[0, 0].set_ylim(top=1.45 * max(observed[:days].max(), truth[:days, point].max()))
    axes[0, 0].legend(ncols=2, loc="upper right")
    fit = np.asarray(analyses.fit).ravel()
    axes[0, 1].hist(fit, bins=np.linspace(0, np.quantile(fit, 0.999), 40), color=SKY)
    axes[0, 1].axvline(1.0, color="black", linestyle="--", label="expected mean")
    axes[0, 1].axvline(fit.mean(), color=BLUE, label=f"mean {fit.mean():.2f}")
    axes[0, 1].set(title="fit of each window", xlabel="2J / number of observations", ylabel="windows")
    axes[0, 1].legend(frameon=False)
    return figure


@style()
def spread_and_error(reduced: ReducedField, analyses: DailyAnalyses, scores: Scores, truth: np.ndarray) -> Figure:
    error = jnp.ravel(reduced.pod.decode(analyses.state[:, :, 0]) - truth)
    spread, actual = spread_against_error(error, jnp.ravel(analyses.spread), 20)
    figure, axes = new_figure(1, 2, (11, 4.6))
    top = 1.05 * float(max(spread.max(), actual.max()))
    axes[0, 0].plot([0, top], [0, top], color=GREY, linestyle="--", linewidth=1)
    axes[0, 0].plot(spread, actual, "o-", color=BLUE, markersize=4)
    axes[0, 0].set(
        title="spread against error",
        xlabel="posterior standard deviation (m)",
        ylabel="RMS error (m)",
        xlim=(0, top),
        ylim=(0, top),
        aspect="equal",
    )
    ours, theirs = scores.analysis_by_network, scores.interpolated_by_network
    low, high = 0.95 * min(ours.min(), theirs.min()), 1.05 * max(ours.max(), theirs.max())
    axes[0, 1].plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1)
    axes[0, 1].plot(theirs, ours, "o", color=BLUE, markersize=5)
    axes[0, 1].set(
        title="each network",
        xlabel="OI analysis RMSE (m)",
        ylabel="4D-Var analysis RMSE (m)",
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
    )
    return figure


def _map(axis: Axes, reduced: ReducedField, values: np.ndarray, colours: str, limits: tuple[float, float]):
    grid = reduced.field
    axis.set(xlabel="longitude", ylabel="latitude")
    axis.label_outer()
    return axis.pcolormesh(
        grid.lon, grid.lat, values.reshape(len(grid.lat), -1), cmap=colours, vmin=limits[0], vmax=limits[1]
    )


def _mark(axis: Axes, reduced: ReducedField, stations: np.ndarray) -> None:
    rows, columns = np.divmod(stations, len(reduced.field.lon))
    axis.plot(
        reduced.field.lon[columns],
        reduced.field.lat[rows],
        "o",
        color="black",
        markersize=3,
        mfc="white",
        mew=0.8,
    )


def _lead_table(by_method: dict[str, np.ndarray]) -> tuple[tuple[str, ...], list[tuple]]:
    leads = len(by_method["forecast"])
    rows = [(METHODS[name][0], *map(float, by_method[name])) for name in METHODS]
    return ("method", *(f"day {d + 1}" for d in range(leads))), rows


def _method_text(config: "Config", reduced: ReducedField) -> str:
    span = {name: len(range(*getattr(reduced.split, name).indices(10**9))) for name in ("train", "validation", "test")}
    return (
        f"The field is reduced to {config.modes} POD modes (cos-latitude weights) of its departures from a climatology "
        f"of {reduced.climatology.harmonics} annual harmonic(s), fitted on {span['train']} training days; "
        f"{span['validation']} validation days choose, {span['test']} test days verify.\n\n"
        "Strong-constraint 4D-Var: the control moves the delay state at the window's start through the square root of "
        "its background covariance, the emulator carries it to the window's end, Gauss-Newton minimises the misfit to "
        "the background and to the observations of every day. R holds the instrument error and the variance of the "
        "truncated modes. The emulator's own error is put on the older lags of the background covariance, which is the "
        "one that cycling settles on. Windows follow one another without overlap, so no observation is used twice."
    )


def _day(time: np.datetime64) -> str:
    return str(time.astype("datetime64[D]"))
