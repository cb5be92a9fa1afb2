"""The report of the inverse experiment: its tables and pictures."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxsci.core.figures import AMBER, BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.diffraction.inverse import Hypothesis

if TYPE_CHECKING:
    from experiments.diffraction_inverse import Case, Config


def report(
    config: "Config",
    run: Run,
    known: list[Hypothesis],
    visible: "list[Case]",
    hidden: "list[Case]",
    example: tuple[np.ndarray, list[np.ndarray]],
) -> Report:
    page = Report(
        "Which dislocation, exactly",
        f"From one noisy ({_indices(config.reflection)}) pattern of {config.prior.photons[1]:.0e} photons: which of "
        f"{len(known)} line defects does the crystal hold? And where the pattern cannot know, what should be measured "
        "next?",
    )
    page.figure(
        "fits",
        run.figure("fits", deviances(config, known, visible, hidden)),
        "Mean Poisson deviance of every hypothesis of every crystal at its best fit. Right of the line: screws of "
        "g.b = 0, where the perfect crystal and all such screws fit equally well, as they must.",
    )
    page.figure(
        "example",
        run.figure("example", slices(known, visible[0], example)),
        "The first crystal: counts, what the best hypothesis expects, and what the next one expects, fitted as well as "
        "it can. The plane through the peak; below, the difference from the counts in standard deviations.",
    )
    rows = [_row(known, number, case) for number, case in enumerate([*visible, *hidden])]
    page.table(
        "Crystals",
        ("crystal", "truth", "best fit", "deviance", "next", "tied", "second reflection", "then"),
        rows,
        caption="'next' is the deviance of the second best hypothesis over that of the best.",
    )
    return page


def name(hypothesis: Hypothesis) -> str:
    """Such as 'edge b=[110]/2 t=[-112]'."""
    if hypothesis.kind == "none":
        return "none"
    b = _indices(np.rint(2 * np.array(hypothesis.burgers)))
    t = np.array(hypothesis.direction)
    t = t / np.abs(t[np.abs(t) > 1e-6]).min()
    return f"{hypothesis.kind} b=[{b}]/2 t=[{_indices(np.rint(t))}]"


def _indices(values) -> str:
    whole = [int(v) for v in values]
    return (" " if any(v < 0 for v in whole) else "").join(map(str, whole))


def _row(known: list[Hypothesis], number: int, case: "Case") -> tuple:
    second = _indices(case.proposed) if case.second_tied else None
    then = None
    if case.second_tied:
        then = "named rightly" if case.resolved else "tied" if case.second_tied > 1 else "named wrongly"
    return (
        number,
        name(known[int(case.truth)]),
        name(known[int(case.order[0])]),
        float(case.deviances[0]),
        float(case.deviances[1] / case.deviances[0]),
        int(case.tied) if case.tied > 1 else None,
        second,
        then,
    )


@style()
def deviances(config: "Config", known: list[Hypothesis], visible: "list[Case]", hidden: "list[Case]") -> Figure:
    figure, axes = new_figure(1, 1, (11, 4.6))
    axis = axes[0, 0]
    for place, case in enumerate([*visible, *hidden]):
        right = case.order == case.truth
        tied = np.arange(len(case.order)) < case.tied
        _dots(axis, place, case.deviances[~right & ~tied], ".", GREY, 5)
        if case.tied > 1:
            _dots(axis, place, case.deviances[tied & ~right], "s", AMBER, 9, fillstyle="none")
        _dots(axis, place, case.deviances[right], "o", BLUE, 7)
        mark = case.second_order == case.truth
        _dots(axis, place + 0.25, case.second_deviances[~mark], "^", ORANGE, 5)
        _dots(axis, place + 0.25, case.second_deviances[mark], "^", BLUE, 6)
    axis.axvline(len(visible) - 0.5, color=GREY, linewidth=0.8)
    handles = {
        "the truth": dict(marker="o", color=BLUE),
        "another hypothesis": dict(marker=".", color=GREY),
        "tied with the best": dict(marker="s", color=AMBER, fillstyle="none"),
        "truth, both reflections": dict(marker="^", color=BLUE),
        "others, both reflections": dict(marker="^", color=ORANGE),
    }
    for label, look in handles.items():
        axis.plot([], [], linestyle="none", label=label, **look)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(yscale="log", xlabel="crystal", ylabel="mean deviance of the fit")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.17), ncols=5, fontsize=9)
    return figure


@style()
def slices(known: list[Hypothesis], case: "Case", example: tuple[np.ndarray, list[np.ndarray]]) -> Figure:
    counts, models = example
    figure, axes = new_figure(2, 3, (10.5, 6.8))
    middle = counts.shape[2] // 2
    titles = ["counts", *(name(known[int(i)]) for i in case.order[:2])]
    top = np.log1p(counts.max())
    for column, (volume, title) in enumerate(zip([counts, *models], titles, strict=True)):
        image = axes[0, column].imshow(np.log1p(volume[:, :, middle]).T, origin="lower", vmin=0, vmax=top)
        axes[0, column].set_title(title, fontsize=10)
    axes[1, 0].set_visible(False)
    for column, model in enumerate(models, start=1):
        misfit = (counts - model)[:, :, middle] / np.sqrt(model[:, :, middle] + 1)
        difference = axes[1, column].imshow(misfit.T, origin="lower", cmap="RdBu_r", vmin=-8, vmax=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(image, ax=list(axes[0]), label="log(1 + counts)", shrink=0.85)
    figure.colorbar(difference, ax=list(axes[1]), label="(counts - model) / sigma", shrink=0.85)
    return figure


def _dots(axis: Axes, x: float, heights: np.ndarray, marker: str, colour: str, size: float, fillstyle="full") -> None:
    axis.plot(np.full(len(heights), x), heights, marker, color=colour, markersize=size, fillstyle=fillstyle)
