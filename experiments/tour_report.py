"""The page of the tour: verdicts at a glance, the table, and a panel for each system."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import format_number

if TYPE_CHECKING:
    from experiments.tour import Visit


def report(run: Run, visits: dict[str, "Visit"]) -> Report:
    held = sum(visit.verdict for visit in visits.values())
    page = Report(
        "Ten systems in small",
        "Does every system do on this machine, in a minute or two, what it is for? Each is held against what one would "
        f"do without it. {held} of {len(visits)} bars hold.",
    )
    shown = {name: visit for name, visit in visits.items() if visit.value is not None and visit.reference is not None}
    if shown:
        picture = run.figure("verdicts", draw_verdicts(shown))
        page.figure("verdicts", picture, "How far each result is beyond its bar. Right of the line the bar holds.")
    page.table(
        "Verdicts",
        ("system", "metric", "reached", "reference", "what the reference is", "holds"),
        [
            (
                visit.stop.system,
                f"{visit.stop.metric} ({visit.stop.better} is better)",
                visit.value,
                None if visit.reference is None else visit.reference.value,
                visit.stop.source,
                visit.verdict,
            )
            for visit in visits.values()
        ],
    )
    for name, visit in visits.items():
        _panel(page, run, name, visit)
    return page


def _panel(page: Report, run: Run, name: str, visit: "Visit") -> None:
    stop = visit.stop
    command = " ".join(["python -m experiments.run", f"experiment={stop.experiment}", *stop.overrides])
    said = f"No result: {visit.failure}" if visit.summary is None else stop.finding
    page.text(f"{stop.problem}\n\n{command}", stop.system)
    picture = visit.child.directory / "figures" / f"{stop.figure}.png"
    if picture.is_file():
        page.figure(name, run.picture(name, picture), said)
    else:
        page.text(said)


def advantage(value: float, bar: float, better: str) -> float:
    """By what factor `value` is better than `bar`, above 1 where it is; of what may be zero or negative, no factor.

    Shares (accuracy, area under the curve, fraction saved) are compared by what is missing to 1.

    >>> advantage(0.5, 1.0, "lower"), advantage(3.0, 2.0, "higher"), advantage(0.75, 0.5, "higher")
    (2.0, 1.5, 2.0)
    """
    if better == "higher" and max(value, bar) < 1:
        return (1 - bar) / (1 - value)
    if value <= 0 or bar <= 0:
        return float("nan")
    return bar / value if better == "lower" else value / bar


@style()
def draw_verdicts(visits: dict[str, "Visit"]) -> Figure:
    """Factors beyond the bar, on a logarithmic axis."""
    figure, axes = new_figure(1, 1, (9, 0.42 * len(visits) + 1.2))
    axis = axes[0, 0]
    for row, visit in enumerate(reversed(visits.values())):
        assert visit.value is not None and visit.reference is not None
        value, bar = visit.value, visit.reference.value
        factor = advantage(value, bar, visit.stop.better)
        text = f"{format_number(value)} against {format_number(bar)}"
        if np.isfinite(factor):
            axis.plot(
                [1, factor], [row, row], color=BLUE if visit.verdict else ORANGE, linewidth=7, solid_capstyle="butt"
            )
        end = factor if np.isfinite(factor) else 1.0
        axis.annotate(text, (max(end, 1.0), row), (6, 0), textcoords="offset points", va="center", fontsize=9)
    axis.axvline(1.0, color=GREY, linewidth=1)
    axis.grid(axis="y", visible=False)
    axis.set_yticks(range(len(visits)), [visit.stop.system for visit in reversed(visits.values())])
    axis.set(xscale="log", xlabel="times better than the reference", ylim=(-0.6, len(visits) - 0.4))
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.xaxis.set_minor_locator(NullLocator())
    left, right = axis.get_xlim()
    axis.set_xlim(left, max(right, 1.5) * (max(right, 1.5) / left) ** 0.35)  # room for the text
    return figure
