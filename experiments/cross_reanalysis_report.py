"""The report of the cross-reanalysis experiment."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import BLUE, DIFFERENCE_MAP, GREEN, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.emulators import ReducedField

if TYPE_CHECKING:
    from experiments.cross_reanalysis import Config, Entry, Observed

METHODS = {"oi": ("optimal interpolation", ORANGE), "kalman": ("Kalman filter", GREEN), "4dvar": ("4D-Var", BLUE)}
DASHES = {"diagonal": "--", "full": "-"}
REFERENCE = {  # RMSE (m) of OI and KF by R and number of stations, computed apart: mean of 10 random networks
    ("diagonal", 5): (61.4, 60.9),
    ("diagonal", 10): (42.9, 42.2),
    ("diagonal", 25): (28.4, 28.3),
    ("diagonal", 50): (25.1, 25.0),
    ("diagonal", 130): (21.1, 21.1),
    ("full", 5): (60.9, 60.4),
    ("full", 10): (41.5, 41.0),
    ("full", 25): (27.0, 27.2),
    ("full", 50): (23.0, 23.3),
    ("full", 130): (19.3, 19.9),
}


def report(config: "Config", run: Run, observed: "Observed", entries: "list[Entry]", reduced: ReducedField) -> Report:
    page = Report(
        "One reanalysis observes another",
        f"How well can the {reduced.field.name} field of one reanalysis be known from points of another, whose errors "
        "are real: biased, correlated in space, and known only from a year of differences?",
    )
    page.figure(
        "rmse_by_stations",
        run.figure("rmse_by_stations", draw_rmse(entries)),
        "Analysis error by number of stations, mean and standard deviation of the networks; crosses: the same computed "
        "apart, with a one-lag model, where the fields are those of the reference.",
    )
    page.figure(
        "observation_error",
        run.figure("observation_error", draw_error(observed)),
        f"Observed less interpolated state over {len(observed.error)} calibration days: mean at each point, and the "
        "correlation of errors at two points by distance. Errors are far from independent: R is not diagonal.",
    )
    page.table(
        "Analysis RMSE (m)",
        ("R", "stations", "OI", "Kalman filter", "4D-Var", "OI, overlap", "4D-Var, overlap", "chi-square"),
        [
            (
                entry.kind,
                entry.stations,
                *(f"{values.mean():.1f} ± {values.std():.1f}" for values in entry.by_network.values()),
                entry.overlap["oi"],
                entry.overlap["4dvar"],
                entry.chi_square,
            )
            for entry in entries
        ],
        caption="Mean and standard deviation of the networks. Overlap: over the area that the observing field covers.",
    )
    return page.table(
        "Forecast RMSE (m)",
        ("R", "stations", "method", *(f"day {lead}" for lead in range(1, config.leads + 1))),
        [
            (entry.kind, entry.stations, METHODS[label][0], *map(float, entry.scores.rmse[name]))
            for entry in entries
            for name, label in (("oi", "oi"), ("kalman", "kalman"), ("forecast", "4dvar"))
        ],
    )


@style()
def draw_rmse(entries: "list[Entry]") -> Figure:
    figure, axes = new_figure(1, 1, (8.5, 4.8))
    axis = axes[0, 0]
    for kind, dashes in DASHES.items():
        shown = [entry for entry in entries if entry.kind == kind]
        counts = np.array([entry.stations for entry in shown])
        for index, (name, (label, colour)) in enumerate(METHODS.items()):
            means = [entry.by_network[name].mean() for entry in shown]
            spread = [entry.by_network[name].std() for entry in shown]
            place = counts * (1 + 0.03 * (index - 1))
            axis.errorbar(place, means, spread, fmt="o" + dashes, color=colour, markersize=4, capsize=2,
                          label=f"{label}, {kind} R")  # fmt: skip
        known = [(c, *REFERENCE[kind, c]) for c in counts if (kind, c) in REFERENCE]
        for count, oi, kalman in known:
            axis.plot([count, count], [oi, kalman], "x", color=GREY, markersize=7)
    axis.set(xlabel="stations", ylabel="analysis RMSE (m)", xscale="log", ylim=(0, None))
    ticks = sorted({entry.stations for entry in entries})
    axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axis.set_xticks([], minor=True)
    axis.legend(fontsize=9)
    return figure


@style()
def draw_error(observed: "Observed") -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.2))
    bias = observed.error.mean(axis=0)
    reach = np.abs(bias).max()
    latitude, longitude = observed.places.T
    shown = axes[0, 0].scatter(
        longitude, latitude, c=bias, s=60, marker="s", cmap=DIFFERENCE_MAP, vmin=-reach, vmax=reach
    )
    figure.colorbar(shown, ax=axes[0, 0], label="m")
    axes[0, 0].set(title="mean difference", xlabel="longitude", ylabel="latitude")
    correlation = np.corrcoef(observed.error.T)
    pairs = np.triu_indices(len(bias), 1)
    apart = _kilometres(observed.places)[pairs]
    edges = np.linspace(0, np.quantile(apart, 0.98), 25)
    which = np.digitize(apart, edges)
    means = [(apart[which == b].mean(), correlation[pairs][which == b].mean()) for b in np.unique(which)]
    axes[0, 1].plot(apart, correlation[pairs], ".", color=GREY, markersize=1.5, alpha=0.3)
    axes[0, 1].plot(*np.array(means).T, "o-", color=BLUE, markersize=4)
    axes[0, 1].axhline(0.0, color=GREY, linestyle="--", linewidth=1)
    axes[0, 1].set(title="correlation of errors", xlabel="distance (km)", ylabel="correlation", xlim=(0, None))
    return figure


def _kilometres(places: np.ndarray) -> np.ndarray:
    """Great-circle distances between all pairs."""
    latitude, longitude = np.deg2rad(places.astype(float)).T
    cosine = np.sin(latitude[:, None]) * np.sin(latitude) + np.cos(latitude[:, None]) * np.cos(latitude) * np.cos(
        longitude[:, None] - longitude
    )
    return 6371.0 * np.arccos(np.clip(cosine, -1, 1))
