"""The page of `benchmarks/changepoints`: tables by method and by series, and pictures of what was found."""

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.drift.tcpd import Collection

METHODS = {
    "ours": "ours, learned on the other series",
    "ours_fixed": "ours, one default for all",
    "parity": "bocpd, reference settings",
    "ruptures_pelt": "ruptures PELT (l2, 3 log n)",
    "ruptures_binseg": "ruptures binary segmentation (l2, 3 log n)",
    "pelt": "our PELT (l2, 3 log n)",
    "zero": "zero: no change",
    "always_fire": "always fire: every 11 points",
}
PUBLISHED = {
    "bocpd_default": "published: bocpd, default",
    "bocpd_oracle": "published: bocpd, best setting of each series (oracle)",
    "pelt_default": "published: PELT, default",
    "binseg_default": "published: binary segmentation, default",
    "segneigh_oracle": "published: segment neighbourhoods, oracle",
    "zero": "published: zero",
}
SHOWN = 6  # series drawn


def report(
    run: Run, collection: Collection, table: dict, found: dict, counted: list[int], picked: list, summary: Summary
) -> Report:
    page = Report(
        "Changepoints beside people's",
        "Where do detectors see changes, and how well does that agree with five annotators of each series?",
    )
    m = summary.metrics
    rows = [(words, m[f"f1_{k}"], m[f"cover_{k}"]) for k, words in METHODS.items() if f"f1_{k}" in m]
    rows += [
        (words, m[f"f1_published_{k}"], m[f"cover_published_{k}"])
        for k, words in PUBLISHED.items()
        if f"f1_published_{k}" in m
    ]
    rows.sort(key=lambda row: -row[1])
    page.table(
        "Methods",
        ("method", "F1", "covering"),
        rows,
        caption=f"Means over {len(counted)} series, the same for all rows.",
    )
    page.figure("means", run.figure("means", means(rows)), "The same numbers; dashed: the dummy that finds no change.")
    drawn = counted[:SHOWN]
    page.figure(
        "series",
        run.figure("series", series(collection, found, drawn)),
        "First series: annotators' marks above (grey, one row each), ours and the reference detector's below.",
    )
    columns = [name for name in METHODS if name in table]
    page.table(
        "By series: F1 / covering",
        ("series", *columns),
        [
            (one.name, *(None if (s := table[c][i]) is None else f"{s[0]:.3f} / {s[1]:.3f}" for c in columns))
            for i, one in enumerate(collection.series)
        ],
        caption="A dash: no result, as the reference fails on missing values.",
    )
    names = list(picked[0])
    page.table(
        "Chosen for each series on all the others",
        ("series", *names),
        [(one.name, *(setting[n] for n in names)) for one, setting in zip(collection.series, picked, strict=True)],
    )
    return page


@style()
def means(rows: list[tuple]) -> Figure:
    figure, axes = new_figure(1, 1, (9, 0.4 * len(rows) + 1.6))
    axis, place = axes[0, 0], np.arange(len(rows))[::-1]
    for column, colour, label, shift in ((1, BLUE, "F1", 0.18), (2, ORANGE, "covering", -0.18)):
        axis.barh(place + shift, [row[column] for row in rows], height=0.34, color=colour, label=label)
        zero = next(row[column] for row in rows if row[0].startswith("zero"))
        axis.axvline(zero, color=colour, linestyle="--", linewidth=1)
    axis.set(xlabel="mean over series", xlim=(0, 1), yticks=place, yticklabels=[row[0] for row in rows])
    axis.grid(axis="y", visible=False)
    axis.legend(loc="lower right", ncols=2)
    return figure


@style()
def series(collection: Collection, found: dict, drawn: list[int]) -> Figure:
    figure, axes = new_figure(max(len(drawn), 1), 1, (9, 1.9 * max(len(drawn), 1)))
    for axis, i in zip(axes[:, 0], drawn, strict=False):
        one = collection.series[i]
        values = np.where(one.known, one.standardised(), np.nan)
        axis.plot(values, color="#374151", linewidth=1)
        top, low = np.nanmax(values), np.nanmin(values)
        unit = (top - low or 1.0) / 12
        for row, marks in enumerate(collection.annotations[one.name].values()):
            axis.plot(marks, [top + unit * (row + 1)] * len(marks), "v", color=GREY, markersize=4)
        for row, (method, colour) in enumerate((("ours", BLUE), ("parity", ORANGE))):
            where = [x for x in found[method][i] or [] if 0 < x < len(values)]
            label = {"ours": "ours", "parity": "reference detector"}[method]
            axis.plot(where, [low - unit * (row + 1)] * len(where), "^", color=colour, markersize=5, label=label)
        axis.set_title(one.name)
        axis.set(ylabel="standardised", xlim=(0, len(values)))
    axes[-1, 0].set_xlabel("index")
    axes[0, 0].legend(loc="best", fontsize=8)
    return figure
