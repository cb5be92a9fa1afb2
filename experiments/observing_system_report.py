"""The report of the observing-system experiment."""

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxsci.assimilation.daily import Analyser
from jaxsci.assimilation.diagnostics import Desroziers
from jaxsci.assimilation.placement import Placement
from jaxsci.core.figures import BLUE, GREY, ORANGE, SKY, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.emulators import ReducedField

if TYPE_CHECKING:
    from experiments.observing_system import Config, Cycled, Errors


def report(
    config: "Config",
    run: Run,
    reduced: ReducedField,
    analyser: Analyser,
    placed: Placement,
    errors: "Errors",
    found: "Cycled",
    implied: Desroziers,
) -> Report:
    page = Report(
        "What is each observation worth?",
        f"Where should {config.stations} stations stand to know the {reduced.field.name} field best, what does each of "
        "their reports do for tomorrow's forecast, and are the error covariances that 4D-Var assumes the ones that its "
        "own misfits show?",
    )
    page.figure(
        "placement",
        run.figure("placement", draw_placement(reduced, placed, errors)),
        "Left: stations in the order in which they were chosen, on the climate's standard deviation. Right: analysis "
        "error over the test days of random networks and of the placed one.",
    )
    page.figure(
        "impact",
        run.figure("impact", draw_impact(reduced, placed, found)),
        "Mean impact of each station on the squared error of the one-day forecast, below zero where it helps; on the "
        "right, that of every window's observations together against the change that really came.",
    )
    _, assumed = analyser.operators(placed.stations)
    page.figure(
        "desroziers",
        run.figure("desroziers", draw_desroziers(np.asarray(assumed), implied)),
        f"Observation error at each station: what R assumes (instrument {config.noise_std:g} and what the modes leave "
        "out) and what innovations and residuals imply.",
    )
    mean, points = np.asarray(jnp.mean(found.impact, axis=0)), reduced.anomalies.shape[1]
    places = [(reduced.field.lat[r], reduced.field.lon[c]) for r, c in _grid(reduced, placed)]
    page.table(
        "Stations in order of choice",
        ("station", "latitude", "longitude", "variance removed", "mean impact, whole window"),
        [
            (i + 1, float(lat), float(lon), float(placed.gain[i]) / points, float(mean[:, i].sum()))
            for i, (lat, lon) in enumerate(places)
        ],
        caption="Variance removed: expected, mean over the field, by adding the station to those above.",
    )
    return page


def _grid(reduced: ReducedField, placed: Placement) -> list[tuple[int, int]]:
    return [divmod(int(point), len(reduced.field.lon)) for point in placed.stations]


@style()
def draw_placement(reduced: ReducedField, placed: Placement, errors: "Errors") -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.4))
    grid = reduced.field
    deviation = reduced.anomalies[reduced.split.train].std(axis=0).reshape(len(grid.lat), -1)
    image = axes[0, 0].pcolormesh(grid.lon, grid.lat, deviation, cmap="viridis")
    figure.colorbar(image, ax=axes[0, 0], label="m")
    for order, (row, column) in enumerate(_grid(reduced, placed)):
        axes[0, 0].plot(grid.lon[column], grid.lat[row], "o", color="white", mec="black", markersize=12)
        axes[0, 0].annotate(str(order + 1), (grid.lon[column], grid.lat[row]), ha="center", va="center", fontsize=8)
    axes[0, 0].set(title="stations", xlabel="longitude", ylabel="latitude")
    for height, (values, best) in enumerate(((errors.random_oi, errors.placed_oi), (errors.random, errors.placed))):
        row = np.full(len(values), height)
        axes[0, 1].plot(values, row, "o", color=GREY, alpha=0.5, label="random" if height else None)
        axes[0, 1].plot(best, height, "D", color=ORANGE, markersize=9, label="placed" if height else None)
    axes[0, 1].set_yticks([0, 1], ["OI", "4D-Var"])
    axes[0, 1].set(title="verification", xlabel="analysis RMSE (m)", ylim=(-0.6, 1.9), xlim=(0, None))
    axes[0, 1].legend(ncols=2, loc="upper left")
    return figure


@style()
def draw_impact(reduced: ReducedField, placed: Placement, found: "Cycled") -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.4))
    impact = np.asarray(found.impact)
    mean = impact.mean(axis=0)
    stations = np.arange(mean.shape[1])
    width = 0.8 / len(mean)
    for age, colour in zip(range(len(mean)), (SKY, BLUE, GREY) * len(mean), strict=False):
        before = len(mean) - 1 - age
        label = "day of the analysis" if before == 0 else f"{before} day(s) before"
        axes[0, 0].bar(stations + 1 + (age - (len(mean) - 1) / 2) * width, mean[age], width, color=colour, label=label)
    axes[0, 0].axhline(0.0, color=GREY, linewidth=1)
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set(title="mean impact", xlabel="station, in order of choice", ylabel="change of squared error (m$^2$)")
    axes[0, 0].legend()
    change, total = np.asarray(found.change), impact.sum(axis=(1, 2))
    reach = [min(change.min(), total.min()), max(change.max(), total.max())]
    axes[0, 1].plot(reach, reach, "--", color=GREY, linewidth=1)
    axes[0, 1].plot(change, total, "o", color=BLUE, markersize=3, alpha=0.6)
    axes[0, 1].set(title="windows", xlabel="change of squared error (m$^2$)", ylabel="sum of impacts (m$^2$)")
    return figure


@style()
def draw_desroziers(assumed: np.ndarray, implied: Desroziers) -> Figure:
    figure, axes = new_figure(1, 1, (8.5, 4.0))
    stations = np.arange(1, len(assumed) + 1)
    estimate = np.diagonal(np.asarray(implied.observation))
    axes[0, 0].bar(stations - 0.2, np.sqrt(np.diagonal(assumed)), 0.38, color=SKY, label="assumed")
    axes[0, 0].bar(stations + 0.2, np.sqrt(np.maximum(estimate, 0)), 0.38, color=BLUE, label="implied")
    axes[0, 0].set(xlabel="station, in order of choice", ylabel="observation error (m)")
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend(ncols=2)
    return figure
