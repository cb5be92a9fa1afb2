"""The page of `experiment=drift`: series with changes, run-length posterior, errors before and after."""

from datetime import UTC, datetime

import numpy as np
from matplotlib.dates import ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from jaxsci.core.figures import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.drift.adaptation import CANDIDATES
from jaxsci.drift.alarm import Verdict
from jaxsci.drift.replay import Replay, relative_error
from jaxsci.drift.rounds import Rounds
from jaxsci.drift.tokio import Jobs

SHOWN = {"keep": GREY, "class_median": AMBER, "levels": GREEN, "adapt_moments": PURPLE, "guard": BLUE}
WORDS = {
    "keep": "static regressor",
    "keep_median": "static class median",
    "class_median": "class median of new jobs (M0)",
    "levels": "run-length-weighted median",
    "recall": "remembered levels",
    "adapt_moments": "M1 + regressor",
    "adapt_coral": "M2 + regressor",
    "adapt_affine": "M3 of static regressor",
    "retrain": "new jobs only",
    "guard": "guard",
}


def day(seconds: float | np.ndarray) -> str:
    return datetime.fromtimestamp(float(seconds), UTC).strftime("%Y-%m-%d")


def report(
    run: Run,
    jobs: Jobs,
    rounds: Rounds,
    log_mass: np.ndarray,
    verdict: Verdict,
    alarms: np.ndarray,
    delays: list[int],
    replays: list[Replay],
    summary: Summary,
) -> Report:
    page = Report(
        "When the machine changed",
        f"When did the I/O performance of {len(jobs)} jobs ({jobs.group}) change, and what can be predicted after it?",
    )
    starts = np.asarray(verdict.start)[alarms]
    page.figure(
        "series",
        run.figure("series", series(jobs, rounds, starts)),
        "Performance of each kind of job. Dashed: changes found, one change time for all kinds.",
    )
    page.figure(
        "run_length",
        run.figure("run_length", run_length(rounds, log_mass, np.asarray(verdict.statistic), alarms)),
        "Above: posterior of the rounds since the last change. Below: mass on recent changes; triangles are alarms.",
    )
    page.table(
        "Alarms",
        ("change", "alarm", "rounds later"),
        [(day(rounds.time[s]), day(rounds.time[a]), d) for s, a, d in zip(starts, alarms, delays, strict=True)],
    )
    page.figure("labels", run.figure("labels", by_labels(replays)), "Means over changes; nothing sees a later label.")
    for replay in replays[:4]:
        name = f"after_{day(jobs.time[replay.change]).replace('-', '')}"
        page.figure(
            name,
            run.figure(name, running(jobs, replay)),
            "Median relative error of the last 40 jobs as labels come in.",
        )
    names = [*CANDIDATES, "guard"]
    page.table(
        "Median relative error in %, everything frozen at the labels given",
        ("change", "labels", "tested", *(WORDS[n] for n in names)),
        [
            (day(jobs.time[r.change]), f.labelled, f.tested, *(round(100 * f.error[n], 1) for n in names))
            for r in replays
            for f in r.frozen
        ],
    )
    page.table(
        "The guard as labels keep coming: median relative error in %",
        ("change", "jobs", *(WORDS[n] for n in names), "regret %"),
        [
            (
                day(jobs.time[r.change]),
                r.last - r.change,
                *(round(100 * r.error[n], 1) for n in names),
                round(100 * r.regret, 1),
            )
            for r in replays
        ],
        caption="Regret: the guard's error over that of the best of its candidates in hindsight, less 1.",
    )
    page.table("By kind: median relative error in % after all changes", *_by_kind(jobs, replays))
    return page


def _by_kind(jobs: Jobs, replays: list[Replay]) -> tuple[tuple[str, ...], list[tuple]]:
    columns = ("keep", "class_median", "levels", "guard")
    rows = []
    for k, name in enumerate(jobs.kinds):
        cells = []
        for column in columns:
            errors = [
                relative_error(r.predictions[column], y)[16:][jobs.kind[r.change : r.last][16:] == k]
                for r in replays
                if len(y := jobs.performance[r.change : r.last]) > 16
            ]
            together = np.concatenate(errors) if errors else np.zeros(0)
            cells.append(round(100 * float(np.median(together)), 1) if len(together) else None)
        rows.append((name, *cells))
    return ("kind", *(WORDS[c] for c in columns)), rows


@style()
def series(jobs: Jobs, rounds: Rounds, starts: np.ndarray) -> Figure:
    count = len(jobs.kinds)
    rows = -(-count // 2)
    figure, axes = new_figure(rows, 2, (12, 1.9 * rows + 0.6))
    dates = _dates(jobs.time)
    for k, axis in enumerate(axes.ravel()):
        if k >= count:
            axis.set_visible(False)
            continue
        mine = jobs.kind == k
        axis.plot(dates[mine], 10 ** jobs.performance[mine] / 1024, ".", color=BLUE, markersize=3)
        for start in starts:
            axis.axvline(_dates(rounds.time[start]), color=ORANGE, linestyle="--", linewidth=1)
        axis.set(yscale="log", ylabel="GiB/s")
        axis.set_title(jobs.kinds[k])
        _date_axis(axis)
    return figure


@style()
def run_length(rounds: Rounds, log_mass: np.ndarray, mass: np.ndarray, alarms: np.ndarray) -> Figure:
    figure, axes = new_figure(2, 1, (11, 6.5))
    dates = _dates(rounds.time)
    alive = np.flatnonzero((log_mass > np.log(1e-6)).any(axis=0))
    longest = min(log_mass.shape[1], int(1.1 * alive.max()) + 2)
    shade = np.clip(log_mass[:, :longest].T / np.log(10), -6, 0)
    # The figure's axis counts rounds: they are not equally spaced in time.
    picture = axes[0, 0].imshow(shade, origin="lower", aspect="auto", cmap="viridis", interpolation="nearest")
    figure.colorbar(picture, ax=axes[0, 0], label="log10 P(run length)")
    axes[0, 0].set(ylabel="rounds since the change")
    axes[0, 0].grid(visible=False)
    place = np.arange(len(mass))
    axes[1, 0].plot(place, mass, color=BLUE, linewidth=1.2)
    axes[1, 0].plot(alarms, np.full(len(alarms), 1.04), "v", color=ORANGE, label="alarm")
    axes[1, 0].set(ylabel="mass on recent changes", ylim=(0, 1.1))
    axes[1, 0].legend(loc="lower right")
    ticks = np.linspace(0, len(dates) - 1, 7).astype(int)
    for axis in axes[:, 0]:
        axis.set(xlim=(-0.5, len(dates) - 0.5), xticks=ticks, xticklabels=[day(rounds.time[i]) for i in ticks])
    return figure


@style()
def by_labels(replays: list[Replay]) -> Figure:
    figure, axes = new_figure(1, 1, (8, 4.6))
    counts = sorted({f.labelled for r in replays for f in r.frozen})
    for name, colour in SHOWN.items():
        means = [100 * np.mean([f.error[name] for r in replays for f in r.frozen if f.labelled == n]) for n in counts]
        axes[0, 0].plot(counts, means, "o-", color=colour, label=WORDS[name], linewidth=2.6 if name == "guard" else 1.6)
    axes[0, 0].set(xlabel="labelled jobs after the change", ylabel="median relative error (%)", ylim=(0, None))
    if counts:
        axes[0, 0].set_xscale("log", base=2)
        axes[0, 0].set_xticks(counts, [str(n) for n in counts])
    axes[0, 0].legend(ncols=2)
    return figure


@style()
def running(jobs: Jobs, replay: Replay) -> Figure:
    figure, axes = new_figure(1, 1, (9, 3.6))
    y = jobs.performance[replay.change : replay.last]
    for name, colour in SHOWN.items():
        error = 100 * relative_error(replay.predictions[name], y)
        window = min(40, max(len(y) // 3, 1))
        views = np.lib.stride_tricks.sliding_window_view(error[4:], window) if len(error) > window + 4 else error[None]
        axes[0, 0].plot(np.arange(len(views)) + window + 4, np.median(views, axis=1), color=colour, label=WORDS[name])
    axes[0, 0].set(xlabel="jobs after the change", ylabel="relative error (%)", ylim=(0, None))
    axes[0, 0].set_title(f"Change of {day(jobs.time[replay.change])}")
    axes[0, 0].legend(ncols=2, fontsize=8)
    return figure


def _dates(seconds):
    """Matplotlib's dates of seconds since 1970."""
    return date2num(np.asarray(seconds, float).astype("datetime64[s]"))


def _date_axis(axis) -> None:
    axis.xaxis_date()
    axis.xaxis.set_major_formatter(ConciseDateFormatter(axis.xaxis.get_major_locator()))
