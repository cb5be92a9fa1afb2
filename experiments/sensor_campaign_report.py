"""The page of `experiment=sensor_campaign`: error against money, what was bought where, what was learned."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from experiments.sensor_stations import Market
from jaxsci.core.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.emulators import ReducedField

if TYPE_CHECKING:
    from experiments.sensor_campaign import Config, Course

LOOKS = {
    "random": ("random", GREY, "-"),
    "greedy": ("greedy, prices ignored", PURPLE, "-"),
    "greedy_per_cost": ("greedy per cost", ORANGE, "-"),
    "active": ("active: per cost, learning", BLUE, "-"),
    "informed": ("knowing the true errors", GREEN, "--"),
}
MAPPED = ("random", "greedy", "greedy_per_cost", "active")


def report(
    config: "Config",
    run: Run,
    reduced: ReducedField,
    markets: Sequence[Market],
    courses: "Mapping[str, Sequence[Course]]",
    target: float,
    metrics: Mapping[str, float],
) -> Report:
    page = Report(
        "Which station to buy next?",
        f"Stations for 4D-Var of {reduced.field.name} cost more at sea, and nobody knows beforehand how good a "
        f"region's instruments are. How far does the money go? {config.seeds} markets, "
        f"{config.budget:g} units of money each.",
    )
    page.figure(
        "error_against_money",
        run.figure("error_against_money", money_figure(config, courses, target)),
        f"Analysis error on the test days. Bands: one standard error over the markets. Dotted: the mean error of "
        f"{config.reference_stations} random stations, the target.",
    )
    page.figure(
        "map",
        run.figure("map", map_figure(reduced, markets[0], courses)),
        "What was bought in the first market. Colour: the true error of the instruments there, which only the records "
        "tell. Circles: stations, numbered in the order of purchase; crosses: those of the start.",
    )
    page.table(
        "Ways of choosing",
        ("arm", "money to target", "share saved", "95 % ±", "got there", "error at the end (m)", "stations"),
        [
            (
                LOOKS[name][0],
                metrics[f"cost_to_target_{name}"],
                metrics.get(f"cost_saved_fraction_{name}"),
                metrics.get(f"cost_saved_fraction_{name}_interval"),
                metrics[f"reached_share_{name}"],
                metrics[f"rmse_m_{name}"],
                metrics[f"stations_{name}"],
            )
            for name in courses
        ],
        caption="Shares are against random, paired by market.",
    )
    sold = markets[0]
    page.table(
        "Regions of the first market",
        ("region", "price", "true error (m)", "learned by active (m)", *(f"bought: {name}" for name in courses)),
        [
            (
                region,
                float(sold.cost[sold.region == i][0]) if np.any(sold.region == i) else None,
                float(sold.noise[i]),
                float(courses["active"][0].noise[i]) if _bought(sold, courses["active"][0], i) else None,
                *(_bought(sold, own[0], i) for own in courses.values()),
            )
            for i, region in enumerate(sold.regions)
        ],
        caption=f"Everyone was told {config.noise_std:g} m.",
    )
    return page


def _bought(sold: Market, course: "Course", region: int) -> int:
    return int(np.sum(sold.region[list(course.stations)] == region))


@style()
def money_figure(config: "Config", courses: "Mapping[str, Sequence[Course]]", target: float) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.6))
    left, right = axes[0]
    grid = np.linspace(max(course.spent[0] for own in courses.values() for course in own), config.budget, 80)
    for name, own in courses.items():
        words, colour, dashes = LOOKS[name]
        values = np.array([_at(course, grid) for course in own])
        middle, half = values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))
        left.plot(grid, middle, dashes, color=colour, label=words)
        left.fill_between(grid, middle - half, middle + half, color=colour, alpha=0.15, linewidth=0)
    left.axhline(target, color=GREY, linestyle=":")
    left.set(xlabel="money spent", ylabel="analysis RMSE (m)", xlim=(grid[0], grid[-1]))
    left.legend(fontsize=9)
    for place, (name, own) in enumerate(courses.items()):
        reached = [course.to_reach(target) for course in own]
        need = [c.spent[-1] if cost is None else cost for c, cost in zip(own, reached, strict=True)]
        right.plot(np.full(len(need), place), need, "o", color=LOOKS[name][1], markersize=5, alpha=0.6)
        right.plot([place - 0.3, place + 0.3], [np.mean(need)] * 2, color=LOOKS[name][1], linewidth=2.5)
    right.set_xticks(range(len(courses)), [name.replace("_", "\n") for name in courses])
    right.set(ylabel="money to reach the target", ylim=(0, None))
    return figure


def _at(course: "Course", grid: np.ndarray) -> np.ndarray:
    """Error once that much is spent: of the last station that could be paid."""
    return course.error[np.maximum(np.searchsorted(course.spent, grid, side="right") - 1, 0)]


@style()
def map_figure(reduced: ReducedField, sold: Market, courses: "Mapping[str, Sequence[Course]]") -> Figure:
    lat, lon = reduced.field.lat, reduced.field.lon
    noise = sold.noise[sold.region].reshape(len(lat), len(lon))
    figure, axes = new_figure(2, 2, (11, 7.6))
    limits = LogNorm(sold.noise.min(), sold.noise.max())
    price = sold.cost.reshape(len(lat), len(lon))
    for axis, name in zip(axes.ravel(), MAPPED, strict=True):
        picture = axis.pcolormesh(lon, lat, noise, norm=limits, cmap="YlOrRd", shading="nearest", alpha=0.75)
        dear = np.argwhere(price > price.min())
        axis.plot(lon[dear[:, 1]], lat[dear[:, 0]], ".", color=BLUE, markersize=2)
        stations = courses[name][0].stations
        rows, columns = np.unravel_index(np.array(stations), noise.shape)
        axis.plot(lon[columns], lat[rows], "o", color="white", markeredgecolor="black", markersize=10)
        for number, (row, column) in enumerate(zip(rows, columns, strict=True), start=1):
            axis.text(lon[column], lat[row], str(number), ha="center", va="center", fontsize=6)
        axis.set(title=f"{LOOKS[name][0]}: {courses[name][0].error[-1]:.1f} m", xlabel="longitude", ylabel="latitude")
        axis.grid(False)
    figure.colorbar(picture, ax=axes.ravel().tolist(), label="true error of the instruments (m)", shrink=0.8)
    return figure
