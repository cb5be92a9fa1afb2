"""The report of the published protocol of AIEADA 1.0."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import AMBER, BLUE, GREEN, GREY, ORANGE, SKY, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run

if TYPE_CHECKING:
    from experiments.aieada import AieadaConfig

METHODS = {  # label, colour, dashes
    "emulator": ("emulator", ORANGE, "-"),
    "fit": ("emulator fitted to all days (SLSQP)", BLUE, "-"),
    "minimum": ("the same, to the minimum (L-BFGS)", SKY, "--"),
    "half": ("fitted to the first half only", GREEN, "-"),
    "climatology": ("climatology", GREY, ":"),
    "persistence": ("persistence", AMBER, ":"),
}
PUBLISHED_LEADS = (1, 5, 10, 15, 20)
PUBLISHED = {  # whole-domain MAE (m) of the published result files: North America, test 1990-1999, 1095 starts
    "emulator": (76.4, 79.7, 78.8, 78.4, 80.0),
    "fit": (72.9, 74.0, 74.9, 75.3, 77.0),
    "climatology": (78.0, 78.0, 77.8, 77.8, 77.8),
}


def report(settings: "AieadaConfig", run: Run, mae: dict[str, np.ndarray], starts: int, stations: int) -> Report:
    page = Report(
        "The published protocol of AIEADA 1.0: a fit",
        f"How closely can a network that maps {settings.inputs} days of {settings.modes} POD coefficients to the next "
        f"{settings.leads} be made to follow those days, by moving its input? {stations} points are observed without "
        f"noise on every one of the days that are then verified, so this is a fit and not a forecast. Means over "
        f"{starts} starts of the test span.",
    )
    page.figure(
        "mae_by_lead",
        run.figure("mae_by_lead", mae_by_lead(settings.leads, mae)),
        "Mean absolute error of the field by lead day. The green curve saw no observation in the shaded half: where it "
        "meets the emulator's, the fit has foreseen nothing.",
    )
    days = [d for d in PUBLISHED_LEADS if d <= settings.leads]
    page.table(
        "Mean absolute error (m)",
        ("method", *(f"day {d}" for d in days), f"mean of {settings.leads}"),
        [
            (label, *(float(mae[name][d - 1]) for d in days), float(mae[name].mean()))
            for name, (label, *_) in METHODS.items()
        ],
    )
    return page.table(
        "Published (m)",
        ("method", *(f"day {d}" for d in PUBLISHED_LEADS)),
        [(METHODS[name][0], *values) for name, values in PUBLISHED.items()],
        caption="Another field, domain and period (z500 of a regional model, North America, 1990-1999): the order of "
        "the rows can be compared, not the metres. Source: result files of Maulik et al. 2022, "
        "doi:10.5194/gmd-15-3433-2022.",
    )


@style()
def mae_by_lead(leads: int, mae: dict[str, np.ndarray]) -> Figure:
    figure, axes = new_figure(1, 1, (8.5, 4.6))
    days = np.arange(1, leads + 1)
    for name, (label, colour, dashes) in METHODS.items():
        axes[0, 0].plot(days, mae[name], dashes, color=colour, label=label)
    axes[0, 0].axvspan(leads // 2 + 0.5, leads, color="0.93", zorder=0)
    axes[0, 0].set(xlabel="lead (days)", ylabel="mean absolute error (m)", xlim=(1, leads))
    axes[0, 0].set_ylim(0, 1.3 * max(values.max() for values in mae.values()))
    axes[0, 0].legend(ncols=2, fontsize=9)
    return figure
