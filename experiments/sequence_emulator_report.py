"""The report of the sequence emulator: training, skill beside the linear map, and both in 4D-Var."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.sequence_emulator_model import TransformerEmulator, missed_by
from jaxsci.assimilation.bootstrap import Interval
from jaxsci.core.figures import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.emulators import ReducedField

if TYPE_CHECKING:
    from experiments.sequence_emulator import Analysed, Config

Curves = list[tuple[int, dict[str, float]]]
BASES = {"linear": "the linear map", "persistence": "damped persistence", "climatology": "climatology"}
FROM_TRUTH = {
    "climatology": ("climatology", GREY, ":"),
    "persistence": ("persistence", AMBER, "--"),
    "damped_persistence": ("damped persistence", PURPLE, "--"),
    "linear": ("linear emulator", ORANGE, "-"),
    "emulator": ("transformer", BLUE, "-"),
}


def report(
    config: "Config",
    run: Run,
    reduced: ReducedField,
    emulator: TransformerEmulator,
    curves: Curves,
    analysed: "dict[str, Analysed]",
    gains: dict[str, Interval],
    summary: Summary,
) -> Report:
    """Figures go to the run directory and into the page."""
    network, metrics = config.network, summary.metrics
    axes = " x ".join(f"{axis} {getattr(config.mesh, axis)}" for axis in ("data", "fsdp", "pipe", "tensor"))
    span = len(reduced.coefficients[reduced.split.train])
    page = Report(
        "A transformer as the emulator in 4D-Var",
        f"A causal transformer reads {network.lags} days of {config.modes} POD coefficients of the "
        f"{reduced.field.name} field and says by how much {BASES[network.corrects]} errs tomorrow; later "
        "days are forecast from its own. Trained on "
        f"{span} days over the mesh {axes}; how does it forecast beside the fitted linear map, and what is an analysis "
        f"of {config.stations} noisy stations worth that is made through it?",
    )
    page.figure(
        "skill",
        run.figure("skill", draw_skill(analysed, gains)),
        "Left: forecasts from the true state, test days. Right: RMSE of the linear emulator less the transformer's, "
        "above zero where the transformer is better, with the central 95 % of 2000 block bootstraps. "
        + summary.notes[0],
    )
    page.figure(
        "analyses",
        run.figure("analyses", draw_analyses(reduced, analysed)),
        "4D-Var of the same observations through either emulator, every day and network. Left: error of the analysis "
        "over the test span, running means of 30 days. Right: network by network; on the line, both are as good.",
    )
    page.figure(
        "correction",
        run.figure("correction", draw_correction(reduced, emulator)),
        f"What the network says of the error of {BASES[network.corrects]} a day ahead, against the error made, on "
        "days of either span; the slope of the line is the share that least squares would keep.",
    )
    page.figure(
        "training",
        run.figure("training", draw_training(curves, _silent(reduced, emulator))),
        f"Mean squared departure from the errors of {BASES[network.corrects]}; on the dashed line the network says "
        "nothing. Training windows have noise on their inputs and dropout.",
    )
    same = metrics.get("sharded_minus_unsharded")
    text = (
        f"The blocks are those of the language model ({metrics['parameters']:g} parameters): heads and hidden units "
        "split over `tensor`, which also splits the days between attention and feed-forward layers; weights and "
        "optimizer state over `fsdp`; windows over `data`. "
    )
    if same is not None:
        text += (
            f"Trained once more on one device with the same batches, what the network says differs by at most "
            f"{same:.1e} of its root mean square. "
        )
    text += (
        "In 4D-Var the same parameters run on one device in float64, differentiated forward (Gauss-Newton) and "
        "backward. The state is the last days and the error of the next: a network cannot be asked to tell its own "
        "error by moving days that it hardly looks at, as the linear map of two days is."
    )
    return page.text(text, title="How it is done")


@style()
def draw_skill(analysed: "dict[str, Analysed]", gains: dict[str, Interval]) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.4))
    left, right = axes[0]
    scores = analysed["transformer"].scores
    leads = len(scores.rmse["linear"])
    days = np.arange(1, leads + 1)
    for name, (label, colour, dashes) in FROM_TRUTH.items():
        left.plot(days, scores.rmse[name], dashes, color=colour, marker="o", markersize=4, label=label)
    left.set(title="forecast from the true state", xlabel="lead (days)", ylabel="RMSE (m)", ylim=(0, None))
    left.legend()
    for start, label, colour, shift in (
        ("day", "from the true state", GREEN, -0.08),
        ("forecast_day", "from its own analysis", SKY, 0.08),
    ):
        found = [gains[f"{start}{d}"] for d in days]
        middle = np.array([gain.value for gain in found])
        reach = np.array([(gain.value - gain.low, gain.high - gain.value) for gain in found]).T
        right.errorbar(days + shift, middle, np.maximum(reach, 0), fmt="o", color=colour, capsize=4, label=label)
    right.axhline(0.0, color=GREY, linestyle="--", linewidth=1)
    right.set(title="transformer against linear map", xlabel="lead (days)", ylabel="gain over linear (m)")
    right.legend()
    for axis in (left, right):
        axis.set_xticks(days)
    return figure


@style()
def draw_analyses(reduced: ReducedField, analysed: "dict[str, Analysed]") -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.4))
    left, right = axes[0]
    days = analysed["linear"].analyses.state.shape[1]
    truth = reduced.anomalies[reduced.split.test][:days]
    weights = jnp.asarray(reduced.weights)
    width = min(30, days)
    for name, colour in (("linear", ORANGE), ("transformer", BLUE)):
        found = analysed[name]
        error = reduced.pod.decode(found.analyses.state[:, :, 0]) - truth
        daily = np.asarray(jnp.mean(weights * jnp.square(error), axis=(0, 2)))
        smooth = np.sqrt(np.convolve(daily, np.ones(width) / width, "valid"))
        middle = np.arange(len(smooth)) + width / 2
        left.plot(middle, smooth, color=colour, label=f"{name}: {found.scores.analysis:.2f} m")
    left.set(title="analysis error", xlabel="test day", ylabel="RMSE (m)")
    left.legend()
    x, y = (analysed[name].scores.analysis_by_network for name in ("linear", "transformer"))
    low, high = 0.97 * min(x.min(), y.min()), 1.03 * max(x.max(), y.max())
    right.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1)
    right.plot(x, y, "o", color=BLUE, markersize=5)
    right.set(
        title="each network",
        xlabel="through the linear emulator (m)",
        ylabel="through the transformer (m)",
        xlim=(low, high),
        ylim=(low, high),
        aspect="equal",
    )
    return figure


@style()
def draw_correction(reduced: ReducedField, emulator: TransformerEmulator) -> Figure:
    figure, axes = new_figure(1, 2, (10, 4.4))
    for axis, (title, span) in zip(
        axes[0], (("training days", reduced.split.train), ("test days", reduced.split.test)), strict=True
    ):
        states, missed = missed_by(emulator.base, reduced.coefficients[span], emulator.lags)
        said = np.asarray(jax.jit(jax.vmap(emulator.correction))(jnp.asarray(states))).ravel()
        missed = missed.ravel()
        keep = np.random.default_rng(0).permutation(len(said))[:4000]
        slope = float(said @ missed / max(said @ said, 1e-30))
        axis.plot(said[keep], missed[keep], ".", color=SKY, markersize=2, alpha=0.5)
        reach = np.quantile(np.abs(said), 0.999)
        axis.plot([-reach, reach], [-slope * reach, slope * reach], color=BLUE, label=f"slope {slope:.2f}")
        axis.plot([-reach, reach], [-reach, reach], color=GREY, linestyle="--", label="right on average")
        high = np.quantile(np.abs(missed), 0.998)
        axis.set(title=title, xlabel="correction said (m)", ylabel="error without it (m)", ylim=(-high, high))
        axis.legend()
    return figure


@style()
def draw_training(curves: Curves, silent: float) -> Figure:
    figure, axes = new_figure(1, 1, (8, 4))
    axis = axes[0, 0]
    for name, colour, label in (("loss", GREEN, "training batch"), ("validation_loss", BLUE, "validation days")):
        rows = [(step, metrics[name]) for step, metrics in curves if name in metrics]
        if rows:
            axis.plot(*zip(*rows, strict=True), color=colour, marker="o", markersize=3, label=label)
    axis.axhline(silent, color=GREY, linestyle="--", label="no correction, validation days")
    axis.set(xlabel="step", ylabel="squared error (unit of the coefficients)")
    axis.legend()
    return figure


def _silent(reduced: ReducedField, emulator: TransformerEmulator) -> float:
    """Loss on the validation span where nothing is corrected."""
    _, missed = missed_by(emulator.base, reduced.coefficients[reduced.split.validation], emulator.base.lags)
    return float(np.mean((missed / float(emulator.unit)) ** 2))
