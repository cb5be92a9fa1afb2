"""Lyapunov exponents of the reference systems, with error bars, beside measured and published values."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from experiments.settings import Settings
from jaxsci.core.config import positive, require
from jaxsci.core.errors import DataError
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.dynamics import KuramotoSivashinsky, Lorenz63, Lorenz96, kaplan_yorke, lyapunov_spectrum
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves
from jaxsci.dynamics.lyapunov import Spectrum, entropy_rate

REGULAR = 0.03  # at length 44 some starts of Kuramoto-Sivashinsky end in a regular state, whose exponent is near zero


@dataclass(frozen=True)
class Case:
    """`starts` trajectories of `duration` each, after `transient`; `exponents` leading ones; times in the system's."""

    starts: int
    duration: float
    transient: float
    exponents: int
    dt: float

    def __post_init__(self) -> None:
        positive(self, "starts", "duration", "transient", "exponents", "dt")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The cases by name; see `SYSTEMS` for the names there are. `systems` picks some of them, null is all."""

    cases: dict[str, Case] = field(default_factory=dict)
    systems: tuple[str, ...] | None = None

    @property
    def chosen(self) -> dict[str, Case]:
        return {name: case for name, case in self.cases.items() if self.systems is None or name in self.systems}

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = sorted(set(self.cases) - set(SYSTEMS))
        require(bool(self.cases) and not unknown, "cases", f"some of {', '.join(SYSTEMS)}", unknown or "none")
        strange = sorted(set(self.systems or ()) - set(self.cases))
        require(not strange, "systems", f"some of {', '.join(self.cases)}", strange)
        require(self.precision == "float64", "precision", "float64 for Lyapunov exponents", self.precision)


class System(NamedTuple):
    """A step map by its `dt`, a random start, and what is known of its exponents."""

    model: Callable[[float], Callable[[Array], Array]]
    start: Callable[[jax.Array], Array]
    conserves_mean: bool
    exponents: dict[int, tuple[float, float]]
    """Reference value and its standard error by position, from 0."""
    dimension: float | None
    source: str


def _ks(length: float, points: int) -> tuple[Callable[[float], Callable], Callable[[jax.Array], Array]]:
    modes = round(5 * length / 22)
    return (lambda dt: KuramotoSivashinsky(length, dt, dealias=True)), (lambda key: long_waves(key, points, modes))


MEASURED = "own ETDRK4 computation of the specification, 2/3 mask"
SYSTEMS = {
    "ks22": System(
        *_ks(22.0, 64),
        True,
        {0: (0.0480, 0.0004), 3: (-0.0035, 0.0004), 4: (-0.1885, 0.0006), 5: (-0.2569, 0.0004)},
        4.24,
        f"{MEASURED}, 32 x 1e4 time units",
    ),
    "ks44": System(
        *_ks(44.0, 64), True, {0: (0.0795, 0.0011)}, None, f"{MEASURED}, 7.2e4 time units, regular starts left out"
    ),
    "ks66": System(*_ks(66.0, 128), True, {0: (0.0870, 0.0010)}, None, f"{MEASURED}, 16 x 4000 time units"),
    "l63": System(
        lambda dt: Lorenz63(dt=dt),
        lambda key: jnp.array([1.0, 1.0, 25.0]) + jax.random.normal(key, (3,)),
        False,
        {0: (0.906, 0.0), 2: (-14.572, 0.0)},
        2.062,
        "J. C. Sprott, web note, more than 1e9 steps",
    ),
    "l96": System(
        lambda dt: Lorenz96(dt=dt),
        lambda key: 8.0 + 0.1 * jax.random.normal(key, (40,)),
        False,
        {0: (1.69, 0.01)},
        27.0,
        "own RK4 computation of the specification, 8 x 300 time units",
    ),
}


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    found: dict[str, Spectrum] = {}
    left_out, seconds = {}, {}
    for name, case in config.chosen.items():
        number = list(config.cases).index(name)  # so that a system draws the same starts alone or among others
        begin = time.perf_counter()
        every = spectrum_of(SYSTEMS[name], case, name, key=jax.random.fold_in(jax.random.key(config.seed), number))
        found[name] = every.chaotic(REGULAR)
        if not len(found[name].each):
            raise DataError(f"cases.{name}: no trajectory was chaotic; give more starts or a longer transient")
        left_out[name] = 1 - len(found[name].each) / len(every.each)
        seconds[name] = time.perf_counter() - begin
        run.log({f"lambda1_{name}": float(found[name].mean[0])}, number)
    return _summary(config, found, left_out, seconds), _report(config, run, found, left_out)


def spectrum_of(system: System, case: Case, name: str, *, key: jax.Array) -> Spectrum:
    """Exponents of every start, regular ones included."""
    for_starts, for_tangents = jax.random.split(key)
    step = system.model(case.dt)
    starts = jax.vmap(system.start)(jax.random.split(for_starts, case.starts))
    transient = round(case.transient / case.dt)
    spin = jax.jit(jax.vmap(lambda u: jax.lax.fori_loop(0, transient, lambda _, v: step(v), u)))
    with progress(100, name) as bar:
        shown = 0

        def on_share(share: float) -> None:
            nonlocal shown
            bar.update(round(100 * share) - shown)
            shown = round(100 * share)

        return lyapunov_spectrum(
            step,
            spin(starts),
            dt=case.dt,
            count=case.exponents,
            duration=case.duration,
            project=(lambda q: q - jnp.mean(q)) if system.conserves_mean else None,
            key=for_tangents,
            on_share=on_share,
        )


def dimensions(spectrum: Spectrum, conserved: int = 0) -> tuple[float, float]:
    """Kaplan-Yorke dimension of the mean exponents, and its standard error by the jackknife over starts."""
    each = spectrum.each
    value = kaplan_yorke(spectrum.mean, conserved=conserved)
    if len(each) < 2:
        return value, 0.0
    left = [kaplan_yorke(np.delete(each, i, axis=0).mean(axis=0), conserved=conserved) for i in range(len(each))]
    return value, float(np.sqrt((len(each) - 1) * np.var(left)))


def _summary(
    config: Config, found: dict[str, Spectrum], left_out: dict[str, float], seconds: dict[str, float]
) -> Summary:
    metrics, references, notes = {}, {}, []
    for name, spectrum in found.items():
        system = SYSTEMS[name]
        metrics[f"lambda1_{name}"] = float(spectrum.mean[0])
        metrics[f"lambda1_{name}_stderr"] = float(spectrum.standard_error[0])
        metrics[f"sum_{name}"] = float(spectrum.mean.sum())
        metrics[f"entropy_{name}"] = entropy_rate(spectrum.mean)
        references[f"lambda1_{name}"] = Reference(system.exponents[0][0], system.source)
        try:
            metrics[f"dky_{name}"], metrics[f"dky_{name}_stderr"] = dimensions(spectrum)
        except DataError:
            notes.append(f"{name}: {spectrum.each.shape[1]} exponents are too few for the Kaplan-Yorke dimension.")
        else:
            if system.dimension is not None:
                references[f"dky_{name}"] = Reference(system.dimension, system.source)
            if system.conserves_mean:
                metrics[f"dky_{name}_with_mean"] = dimensions(spectrum, conserved=1)[0]
        deviations = [_deviation(spectrum, i, *reference) for i, reference in system.exponents.items()]
        reachable = [d for d in deviations if d is not None]
        metrics[f"worst_deviation_{name}"] = max(reachable)
        if left_out[name]:
            notes.append(f"{name}: {left_out[name]:.0%} of the starts ended in a regular state and are left out.")
    notes.append(
        "worst_deviation: largest distance of an exponent from its reference, in combined standard errors, or in per "
        "cent where the reference has no error. dky leaves the conserved mean out; dky_.._with_mean counts it."
    )
    return Summary("benchmarks/lyapunov", metrics, references, seconds, tuple(notes))


def _deviation(spectrum: Spectrum, index: int, value: float, error: float) -> float | None:
    if index >= spectrum.each.shape[1]:
        return None
    distance = abs(float(spectrum.mean[index]) - value)
    if error == 0:
        return 100 * distance / abs(value)
    return distance / float(np.hypot(error, spectrum.standard_error[index]))


def _report(config: Config, run: Run, found: dict[str, Spectrum], left_out: dict[str, float]) -> Report:
    page = Report(
        "Lyapunov exponents of the reference systems",
        "Do the step maps and the QR method give the exponents that are known, within their error bars?",
    )
    page.figure(
        "spectra",
        run.figure("spectra", spectra(found)),
        "Exponents with two standard errors (most are smaller than the dots) and the reference values.",
    )
    for name, spectrum in found.items():
        case, system = config.cases[name], SYSTEMS[name]
        rows = []
        for i, (value, error) in enumerate(zip(spectrum.mean, spectrum.standard_error, strict=True)):
            reference = system.exponents.get(i)
            shown = None if reference is None else f"{reference[0]:g} ± {reference[1]:g}"
            rows.append((str(i + 1), f"{value:.4f} ± {error:.4f}", shown))
        page.table(
            name,
            ("exponent", "ours", "reference"),
            rows[:12],
            f"{case.starts} starts, {case.duration:g} time units each, dt {case.dt:g}, {left_out[name]:.0%} of them "
            f"regular and left out. Leading exponent of each start: "
            + ", ".join(f"{value:.3f}" for value in spectrum.each[:, 0]),
        )
    return page


@style()
def spectra(found: dict[str, Spectrum]) -> Figure:
    figure, axes = new_figure(1, len(found), (2.9 * len(found) + 0.5, 3.6))
    for axis, (name, spectrum) in zip(axes[0], found.items(), strict=True):
        count = len(spectrum.mean)
        axis.axhline(0, color=GREY, linewidth=1)
        axis.errorbar(
            range(1, count + 1),
            spectrum.mean,
            2 * spectrum.standard_error,
            fmt="o",
            color=BLUE,
            markersize=4,
            label="ours",
        )
        known = {i: v for i, v in SYSTEMS[name].exponents.items() if i < count}
        axis.plot(
            [i + 1 for i in known], [v for v, _ in known.values()], "x", color=ORANGE, markersize=9, label="reference"
        )
        axis.set(title=name, xlabel="exponent", ylabel="per time unit")
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    return figure
