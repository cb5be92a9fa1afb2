"""Figures of the classification study."""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from experiments.bayesnas_arms import Problem
from experiments.bayesnas_config import Config
from experiments.bayesnas_evaluation import NAMES, Results, SeedScores
from jaxsci.bayesnas.calibration import Reliability, reliability
from jaxsci.bayesnas.ensemble import mixture, nested
from jaxsci.bayesnas.loaders.images import LabelledImages
from jaxsci.bayesnas.space import Space
from jaxsci.bayesnas.uncertainty import entropy_split
from jaxsci.core.figures import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, new_figure, style

COLOURS = {
    "single": GREY,
    "chain": "#A8AFBB",
    "deep_ensemble": BLUE,
    "deep_ensemble_chain": SKY,
    "random_architectures": AMBER,
    "nes": GREEN,
    "joint": ORANGE,
}
PARTS = (("architecture", ORANGE), ("weights", BLUE), ("data", SKY))


@style()
def reliability_diagrams(problem: Problem, results: Results, found: list[SeedScores]) -> Figure:
    figure, axes = new_figure(1, 3, (12, 4.4))
    y = problem.test.y
    alone = jnp.asarray(results["deep_ensemble"]["test"])[:, -1]
    panels = {
        "single": (_mean_reliability(alone, y), "one network (mean of all)"),
        "deep_ensemble": (reliability(jnp.mean(alone, axis=0), y), "deep ensemble"),
        "joint": (reliability(jnp.mean(jnp.asarray(results["joint"]["test"]), axis=(0, 1)), y), "joint posterior"),
    }
    for axis, (arm, (rows, title)) in zip(axes[0], panels.items(), strict=True):
        used = np.asarray(rows.count) > 0
        centres = (np.arange(len(used)) + 0.5) / len(used)
        share = np.asarray(rows.count) / np.asarray(rows.count).sum()
        axis.bar(centres, share, width=0.9 / len(used), color=COLOURS[arm], alpha=0.3, label="share of examples")
        axis.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2)
        axis.plot(
            np.asarray(rows.confidence)[used],
            np.asarray(rows.accuracy)[used],
            "o-",
            color=COLOURS[arm],
            label="accuracy",
        )
        ece = np.mean([one.arms[arm].clean[NAMES.index("ece")] for one in found])
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=f"{title}\nECE {ece:.4f}, {len(found)} seeds")
    axes[0, 0].set_ylabel("share that is right")
    handles, labels = axes[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _mean_reliability(p: jax.Array, y: jax.Array) -> Reliability:
    """One diagram of several networks: their bins put together."""
    rows = jax.vmap(lambda p: reliability(p, y))(p)
    count = jnp.sum(rows.count, axis=0)
    mean = lambda values: jnp.sum(values * rows.count, axis=0) / jnp.maximum(count, 1)  # noqa: E731
    return Reliability(mean(rows.confidence), mean(rows.accuracy), count)


@style()
def by_severity(problem: Problem, found: list[SeedScores], labels: dict[str, str]) -> Figure:
    figure, axes = new_figure(1, 3, (12, 4.6))
    severities = np.array([severity for _, severity in problem.corrupted])
    levels = sorted(set(severities.tolist()))
    for axis, (score, title) in zip(
        axes[0], (("accuracy", "accuracy"), ("nll", "NLL (nats)"), ("ece", "ECE")), strict=True
    ):
        number = NAMES.index(score)
        for arm, colour in COLOURS.items():
            clean = np.mean([one.arms[arm].clean[number] for one in found])
            by_set = np.mean([one.arms[arm].by_set[:, number] for one in found], axis=0)
            curve = [clean, *(by_set[severities == level].mean() for level in levels)]
            wide = arm in ("single", "deep_ensemble", "joint")
            axis.plot(
                [0, *levels], curve, "o-", color=colour, linewidth=2.2 if wide else 1.2, label=labels[arm], markersize=4
            )
        axis.set(xlabel="corruption severity", title=title, xticks=[0, *levels])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@style()
def architecture_posterior(space: Space, results: Results) -> Figure:
    figure, axes = new_figure(1, 2, (11, 0.42 * space.decisions + 2.2))
    p = results["search"]["probabilities"]
    drawn = results["joint"]["choices"]
    unique = drawn[np.sort(np.unique(drawn, axis=0, return_index=True)[1])]
    image = axes[0, 0].imshow(p, vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*p.shape):
        axes[0, 0].text(
            column,
            row,
            f"{p[row, column]:.2f}",
            ha="center",
            va="center",
            color="w" if p[row, column] < 0.6 else "k",
            fontsize=9,
        )
    axes[0, 0].set_xticks(range(len(space.ops)), space.ops, rotation=25, ha="right")
    axes[0, 0].set_yticks(range(space.decisions), space.decision_names)
    axes[0, 0].set(title="probability of each operation", ylabel="edge")
    axes[0, 0].grid(False)
    figure.colorbar(image, ax=axes[0, 0])
    best = p.argmax(1)
    shown = np.concatenate([best[None], unique])
    axes[0, 1].imshow(shown.T, cmap="tab10", vmin=0, vmax=9, aspect="auto", alpha=0.5)
    for column, row in np.ndindex(*shown.shape):
        axes[0, 1].text(
            column,
            row,
            space.ops[shown[column, row]].replace(" ", "\n").replace("_", "\n"),
            ha="center",
            va="center",
            fontsize=7,
        )
    axes[0, 1].set_xticks(range(len(shown)), ["argmax", *(f"draw {i + 1}" for i in range(len(unique)))])
    axes[0, 1].set_yticks(range(space.decisions), space.decision_names)
    axes[0, 1].set(title="the most probable architecture and the draws")
    axes[0, 1].grid(False)
    return figure


@style()
def uncertainty_by_severity(problem: Problem, found: list[SeedScores]) -> Figure:
    figure, axes = new_figure(1, 2, (10, 4.2))
    severities = np.array([severity for _, severity in problem.corrupted])
    levels = sorted(set(severities.tolist()))
    by_set = np.mean([one.split_by_set for one in found], axis=0)  # (sets, total and parts)
    names = ("total", "architecture", "weights", "aleatoric")
    clean = np.array([np.mean([one.split[f"entropy_{name}"] for one in found]) for name in names])
    rows = np.stack([clean, *(by_set[severities == level].mean(0) for level in levels)])
    bottom, share_bottom = np.zeros(len(rows)), np.zeros(len(rows))
    for number, (name, colour) in enumerate(PARTS, start=1):
        axes[0, 0].bar(range(len(rows)), rows[:, number], bottom=bottom, color=colour, label=name)
        share = rows[:, number] / rows[:, 0]
        axes[0, 1].bar(range(len(rows)), share, bottom=share_bottom, color=colour)
        bottom, share_bottom = bottom + rows[:, number], share_bottom + share
    for axis, title in zip(axes[0], ("entropy (nats)", "share of it"), strict=True):
        axis.set_xticks(range(len(rows)), ["clean", *map(str, levels)])
        axis.set(xlabel="corruption severity", title=title)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@style()
def uncertainty_map(images: LabelledImages, problem: Problem, results: Results, config: Config) -> Figure:
    joint = nested(jnp.asarray(results["joint"]["test"]), config.ensemble.architectures)
    split = entropy_split(joint)
    named, y = np.asarray(jnp.argmax(mixture(joint), -1)), np.asarray(problem.test.y)
    wrong = named != y
    figure, _ = new_figure(1, 1, (11, 4.8))
    figure.clear()
    grid = GridSpec(3, 9, figure=figure)
    axis = figure.add_subplot(grid[:, :4])
    points = axis.scatter(split.weights, split.architecture, c=split.aleatoric, s=16, cmap="viridis")
    axis.scatter(
        split.weights[wrong],
        split.architecture[wrong],
        s=60,
        facecolors="none",
        edgecolors=ORANGE,
        label="named wrongly",
    )
    axis.set(xlabel="from the weights (nats)", ylabel="from the architecture (nats)", title="every test example")
    axis.legend()
    figure.colorbar(points, ax=axis, label="from the data (nats)")
    order = np.argsort(-np.asarray(split.total))[:12]
    x = np.asarray(problem.test.x)
    low, high = x.min(), x.max()
    for place, example in enumerate(order):
        panel = figure.add_subplot(grid[place // 4, 5 + place % 4])
        picture = (x[example] - low) / (high - low)
        panel.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray_r", interpolation="nearest")
        colour = ORANGE if wrong[example] else PURPLE
        panel.set_title(
            f"{images.classes[y[example]]} → {images.classes[named[example]]}",
            fontsize=9,
            color=colour,
            loc="center",
            pad=3,
        )
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(False)
    return figure
