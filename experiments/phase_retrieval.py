"""The crystal behind a measured Bragg pattern: phase retrieval, and whether a dislocation winds the phase inside it."""

import time
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.settings import Settings
from jaxsci.core.config import between, require
from jaxsci.core.errors import DataError
from jaxsci.core.figures import AMBER, BLUE, GREY, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.diffraction.detector import count, expected_counts
from jaxsci.diffraction.dislocation import Line, displacement
from jaxsci.diffraction.measured import MeasuredConfig, load_intensity
from jaxsci.diffraction.retrieval import RetrievalConfig, Retrieved, refine, retrieve, to_momentum
from jaxsci.diffraction.winding import Windings, longest_line, thickness, windings

BAR = 0.01
THREADS = 0.5  # a line that crosses half the crystal's thickness is a dislocation; loops of noise are far shorter


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`starts` random starts, of which the best counts. `refine_steps` of the Poisson likelihood follow it: a better
    fit, but also to the noise, so that windings are looked for in what the projections found.

    `control`: also insert a dislocation into the object found, at the same number of photons, and look for it.
    """

    data: MeasuredConfig = field(default_factory=MeasuredConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    starts: int = 5
    refine_steps: int = 30
    control: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "starts", 1, 1000)
        require(self.refine_steps >= 0, "refine_steps", "0 or more", self.refine_steps)


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    intensity = jnp.asarray(load_intensity(config.data), jnp.float32)
    begin = time.perf_counter()
    solve = jax.jit(partial(retrieve, config=config.retrieval))
    keys = jax.random.split(jax.random.key(config.seed), config.starts + 1)
    found: list[Retrieved] = []
    with progress(config.starts + int(config.control), "phase retrieval") as bar:
        for start in range(config.starts):
            found.append(jax.block_until_ready(solve(intensity, key=keys[start])))
            run.log({"chi_square": found[-1].chi_square}, start)
            bar.update(chi_square=float(found[-1].chi_square))
        finite = [r for r in found if np.isfinite(r.chi_square)]
        if not finite:
            raise DataError("data.path: no start led to an object; is there a crystal in this array?")
        best = min(finite, key=lambda r: float(r.chi_square))
        polished = refine(best, intensity, steps=config.refine_steps) if config.refine_steps else best
        inside = windings(best.object, best.support)
        control = None
        if config.control:
            control = _control(config, best, intensity, solve, keys[-1])
            bar.update(stage="with a dislocation inserted")
    seconds = {"retrieve": time.perf_counter() - begin}
    summary = _summary(config, found, best, polished, inside, control, seconds)
    return summary, _report(config, run, intensity, found, best, inside, control, summary)


def _control(
    config: Config, best: Retrieved, intensity: jax.Array, solve, key: jax.Array
) -> tuple[Retrieved, Windings]:
    """The same object with a screw of g.b = 1 along its first axis, measured with as many photons, and retrieved."""
    points = jnp.stack(
        jnp.meshgrid(*[jnp.arange(size, dtype=jnp.float32) for size in intensity.shape], indexing="ij"), -1
    )
    weight = jnp.abs(best.object)
    centre = jnp.sum(points * weight[..., None], (0, 1, 2)) / jnp.sum(weight) + 0.5  # off the voxels' centres
    axis = jnp.array([1.0, 0.0, 0.0])
    line = Line(axis, axis, jnp.array([0.0, 0.0, 1.0]), centre)
    turns = displacement(line, points, poisson=0.3, core_radius=0.5) @ axis
    field = to_momentum(best.object * jnp.exp(2j * jnp.pi * turns))
    draw, start = jax.random.split(key)
    mean = expected_counts(jnp.square(jnp.abs(field)), photons=float(jnp.sum(intensity)), background=0.0)
    counts = count(mean, key=draw)
    pattern = jnp.where(counts < 2, 0.0, counts)
    again = [solve(pattern, key=k) for k in jax.random.split(start, config.starts)]
    chosen = min(again, key=lambda r: float(r.chi_square))
    return chosen, windings(chosen.object, chosen.support)


def _lines(found: Windings) -> int:
    return int(jnp.sum(found.numbers != 0))


def _is_dislocated(result: Retrieved, found: Windings) -> bool:
    return longest_line(found) >= THREADS * thickness(result.support)


def _summary(
    config: Config,
    found: list[Retrieved],
    best: Retrieved,
    polished: Retrieved,
    inside: Windings,
    control: tuple[Retrieved, Windings] | None,
    seconds: dict[str, float],
) -> Summary:
    starts = [float(r.chi_square) for r in found if np.isfinite(r.chi_square)]
    metrics = {
        "chi_square": float(best.chi_square),
        "chi_square_refined": float(polished.chi_square),
        "chi_square_median_of_starts": float(np.median(starts)),
        "winding_squares_inside": _lines(inside),
        "squares_inside": int(jnp.sum(inside.inside)),
        "support_voxels": int(jnp.sum(best.support)),
        "longest_line_voxels": longest_line(inside),
        "crystal_thickness_voxels": thickness(best.support),
        "dislocation_found": float(_is_dislocated(best, inside)),
    }
    references = {"chi_square": Reference(BAR, "normalised chi-square of HIO/ER with shrink-wrap on scan 54", "lower")}
    if control is not None:
        metrics["control_winding_squares"] = _lines(control[1])
        metrics["control_longest_line_voxels"] = longest_line(control[1])
        metrics["control_dislocation_found"] = float(_is_dislocated(*control))
        metrics["control_chi_square"] = float(control[0].chi_square)
    notes = (
        "chi_square = sum over I > 0 of (|F rho| - sqrt I)^2 / sum I, of the object cut to its support.",
        f"A dislocation is reported where the phase winds about a connected line as long as {THREADS} of the crystal's "
        "thickness, in the support without its outer voxel. g.b = 0 cannot be seen.",
        "The control's dislocation is an analytic screw inserted into the object retrieved here, not a measured one.",
    )
    return Summary("phase_retrieval", metrics, references, seconds, notes)


def _report(
    config: Config,
    run: Run,
    intensity: jax.Array,
    found: list[Retrieved],
    best: Retrieved,
    inside: Windings,
    control: tuple[Retrieved, Windings] | None,
    summary: Summary,
) -> Report:
    verdict = "a dislocation" if summary.metrics["dislocation_found"] else "no dislocation"
    page = Report(
        f"Phase retrieval: {verdict} found",
        f"Which object scatters the {' x '.join(map(str, intensity.shape))} intensities of "
        f"{config.data.path or 'the packaged scan 54 of APS 34-ID-C'}, and does its phase wind about a line?",
    )
    page.figure(
        "object",
        run.figure("object", _slices(intensity, best)),
        "Three slices through the centre: log10 of the measured intensity, modulus and phase of the object.",
    )
    page.figure("convergence", run.figure("convergence", _courses(found)), "chi-square of every start and step.")
    if control is not None:
        page.figure(
            "control",
            run.figure("control", _windings(best, inside, *control)),
            "Left: the object retrieved. Right: after an analytic screw of g.b = 1 was inserted into it and it was "
            "retrieved again from as many photons. Crosses mark squares about which the phase winds.",
        )
    rows = [(number, float(r.chi_square), int(jnp.sum(r.support))) for number, r in enumerate(found)]
    page.table("Starts", ("start", "chi-square", "support (voxels)"), rows)
    return page


def _middle(volume: np.ndarray, axis: int) -> np.ndarray:
    return np.take(volume, volume.shape[axis] // 2, axis=axis)


def _window(support: np.ndarray) -> tuple[slice, ...]:
    """The support's bounding box and a margin."""
    found = []
    for axis in range(3):
        occupied = np.flatnonzero(support.any(axis=tuple(i for i in range(3) if i != axis)))
        low, high = (occupied[0], occupied[-1]) if len(occupied) else (0, support.shape[axis] - 1)
        found.append(slice(max(int(low) - 3, 0), int(high) + 4))
    return tuple(found)


@style()
def _slices(intensity: jax.Array, best: Retrieved) -> Figure:
    figure, axes = new_figure(3, 3, (10, 9.6))
    window = _window(np.asarray(best.support))
    cut = np.asarray(best.object)[window]
    support = np.asarray(best.support)[window]
    names = ("frame", "row", "column")
    for axis in range(3):
        measured = np.log10(np.maximum(_middle(np.asarray(intensity), axis), 0.5))
        field, mask = _middle(cut, axis), _middle(support, axis)
        phase = np.where(mask, np.angle(field * np.exp(-1j * np.angle(cut.sum()))), np.nan)
        one = axes[axis, 0].imshow(measured, origin="lower", aspect="auto")
        two = axes[axis, 1].imshow(np.abs(field), origin="lower", aspect="auto")
        three = axes[axis, 2].imshow(phase, origin="lower", cmap="twilight", vmin=-np.pi, vmax=np.pi, aspect="auto")
        labels = [name for i, name in enumerate(names) if i != axis]
        for column, (image, label) in enumerate(((one, "log10 counts"), (two, "modulus"), (three, "phase (rad)"))):
            figure.colorbar(image, ax=axes[axis, column], label=label)
            axes[axis, column].set(ylabel=labels[0], xlabel=labels[1])
            axes[axis, column].grid(False)
    return figure


@style()
def _courses(found: list[Retrieved]) -> Figure:
    figure, axes = new_figure(1, 1, (8, 3.6))
    axis = axes[0, 0]
    for number, result in enumerate(found):
        axis.plot(np.asarray(result.course), color=BLUE, alpha=0.5, linewidth=1, label="starts" if not number else None)
    axis.axhline(BAR, color=AMBER, linestyle=":", label="0.01")
    axis.set(xlabel="step", ylabel="chi-square", yscale="log")
    axis.legend()
    return figure


@style()
def _windings(best: Retrieved, inside: Windings, control: Retrieved, wound: Windings) -> Figure:
    figure, axes = new_figure(1, 2, (9, 4.2))
    for axis, result, found, title in (
        (axes[0, 0], best, inside, "as measured"),
        (axes[0, 1], control, wound, "with a dislocation inserted"),
    ):
        window = _window(np.asarray(result.support))
        shape = np.asarray(result.object)[window].shape
        plane = shape[0] // 2
        phase = np.where(np.asarray(result.support), np.angle(np.asarray(result.object)), np.nan)[window][plane]
        image = axis.imshow(phase, origin="lower", cmap="twilight", vmin=-np.pi, vmax=np.pi)
        rows, columns = np.nonzero(np.asarray(found.numbers[0])[window][plane])
        axis.plot(columns + 0.5, rows + 0.5, "x", color=AMBER, markersize=9, markeredgewidth=2)
        axis.set(title=f"{title}: {_lines(found)} squares", xlabel="column", ylabel="row")
        axis.grid(False)
    figure.colorbar(image, ax=list(axes[0]), label="phase (rad)", location="bottom", shrink=0.5)
    axes[0, 0].set_facecolor(GREY + "22")
    axes[0, 1].set_facecolor(GREY + "22")
    return figure
