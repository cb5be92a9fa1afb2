"""How fast and how right is the scattering code: patterns per second, sums over atoms, continuum against atoms."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.benchmarks import diffraction_peer as peer
from experiments.settings import Settings
from jaxsci.core.config import positive
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.diffraction import generator, scattering
from jaxsci.diffraction.benchmark_case import LENGTH, REFLECTION, A, amplitudes_of_gold_sphere, gold_sphere
from jaxsci.diffraction.dislocation import displacement
from jaxsci.diffraction.nonuniform import nonuniform_sum

OVERSAMPLINGS = (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`batch` patterns a call; every time is the median of `repeats` calls, the two sides in turn.

    `planes` of the `n` planes of momenta are summed directly, and the time multiplied: the whole takes minutes.
    """

    prior: generator.Prior = field(default_factory=generator.Prior)
    batch: int = 64
    repeats: int = 5
    atoms: int = 50_000
    planes: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch", "repeats", "atoms", "planes")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    with progress(3, "benchmark") as steps:
        patterns, disagreement = _patterns(config, run)
        steps.update(stage="patterns timed")
        atoms = _sums_over_atoms(config)
        steps.update(stage="sums over atoms timed")
        atomistic, continua = amplitudes_of_gold_sphere(OVERSAMPLINGS)
        against = [float(scattering.amplitude_disagreement(c, atomistic)) for c in continua]
        steps.update(stage="continuum compared with atoms")
    rate = {name: config.batch / seconds for name, seconds in patterns.items()}
    metrics = {
        "patterns_per_second_ratio": rate["jax"] / rate["numpy"],
        "patterns_per_second": rate["jax"],
        "patterns_per_second_numpy": rate["numpy"],
        "patterns_per_second_ratio_to_fft": rate["jax"] / rate["scipy_fft"],
        "patterns_relative_difference": disagreement,
        "fft_vs_atomistic_r": against[-1],
        "fft_vs_atomistic_r_without_supersampling": against[0],
        "atomistic_speedup": atoms["direct"] / atoms["gemm"],
        "nonuniform_speedup": atoms["direct"] / atoms["nonuniform"],
        "nonuniform_relative_difference": atoms["nonuniform_difference"],
        "nonuniform_seconds": atoms["nonuniform"],
        "atomistic_relative_difference": atoms["difference"],
        "atomistic_seconds": atoms["gemm"],
        "atomistic_value_and_gradient_seconds": atoms["gradient"],
    }
    references = {
        "patterns_per_second_ratio": Reference(2.0, "the same algorithm in NumPy, same CPU, same run", "higher"),
        "fft_vs_atomistic_r": Reference(0.1, "sum over atoms; 0.088 expected at 4 points a voxel", "lower"),
        "atomistic_speedup": Reference(50.0, "direct sum, float32, same run; by blocked GEMM", "higher"),
        "nonuniform_speedup": Reference(50.0, "the same; by non-uniform FFT", "higher"),
    }
    notes = (
        f"NumPy computes the same float32 formulas and matrix products pattern after pattern; SciPy's FFT pads to "
        f"{config.prior.n * config.prior.oversampling}^3. Drawing scenes and photons is left out on both sides.",
        f"The direct sum ran on {config.planes} of {config.prior.n} planes of momenta, and its time was multiplied.",
    )
    summary = Summary("benchmarks/diffraction", metrics, references, {}, notes)
    page = Report(
        "Diffraction: speed and correctness",
        f"How many {config.prior.n}^3 patterns a second, against NumPy and SciPy on this CPU; what a sum over "
        f"{config.atoms:,} atoms costs; and how far the continuum is from the atoms.",
    )
    page.figure(
        "speed",
        run.figure("speed", _bars(rate, atoms)),
        "Left: patterns per second. Right: seconds for one sum over atoms, logarithmic.",
    )
    page.figure(
        "continuum",
        run.figure("continuum", _slices(atomistic, continua, against)),
        "Central slices of log10 I of a gold sphere with a screw dislocation, atoms and hard-edged continua. Aliasing "
        "fills the fringes where the grid is as coarse as the resolution.",
    )
    return summary, page


def _patterns(config: Config, run: Run) -> tuple[dict[str, float], float]:
    prior = config.prior
    keys = jax.random.split(jax.random.key(config.seed), config.batch)
    kinds = jnp.arange(config.batch) % 3
    scenes = jax.jit(jax.vmap(lambda kind, key: generator.draw(prior, kind, key=key)[0]))(kinds, keys)
    ours = jax.jit(lambda scenes: jax.lax.map(lambda scene: generator.expected(scene, prior), scenes))
    on_host = jax.tree.map(np.asarray, scenes)
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], on_host) for i in range(config.batch)]
    sides: dict[str, Callable] = {
        "jax": lambda: jax.block_until_ready(ours(scenes)),
        "numpy": lambda: [peer.expected(scene, prior, fft=False) for scene in each],
        "scipy_fft": lambda: [peer.expected(scene, prior, fft=True) for scene in each],
    }
    found = {name: np.asarray(side()) for name, side in sides.items()}  # compiles and warms up
    largest = np.abs(found["numpy"]).max()
    difference = max(float(np.abs(found["jax"] - found[name]).max() / largest) for name in ("numpy", "scipy_fft"))
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(config.repeats):
        for name, side in sides.items():
            times[name].append(_seconds(side))
        run.log({f"seconds_{name}": times[name][-1] for name in sides}, repeat)
    return {name: statistics.median(values) for name, values in times.items()}, difference


def _sums_over_atoms(config: Config) -> dict[str, float]:
    n = config.prior.n
    sites, line = gold_sphere()
    chosen = np.random.default_rng(config.seed).permutation(len(sites))[: config.atoms]
    sites = jnp.asarray(sites[np.sort(chosen)], jnp.float32)
    u = displacement(line, sites, poisson=0.42)
    phase = 2 * jnp.pi / A * (u @ jnp.asarray(REFLECTION))
    positions, weights = sites + u, jax.lax.complex(jnp.cos(phase), jnp.sin(phase))
    planes = min(config.planes, n)

    direct = jax.jit(lambda r, w: scattering.direct_sum(r, w, n=n, length=LENGTH, planes=planes))
    target = jnp.ones((n, n, n), jnp.float32)

    @jax.jit
    def slope(r: Float[Array, "atoms 3"]) -> tuple[Array, Array]:
        return jax.value_and_grad(
            lambda r: jnp.sum(target * scattering.intensity(scattering.gemm_sum(r, weights, n=n, length=LENGTH)))
        )(r)

    gemm = lambda: jax.block_until_ready(scattering.gemm_sum(positions, weights, n=n, length=LENGTH))  # noqa: E731
    reference = lambda: jax.block_until_ready(direct(positions, weights))  # noqa: E731
    spread = lambda: jax.block_until_ready(nonuniform_sum(positions, weights, n=n, length=LENGTH))  # noqa: E731
    exact = np.asarray(reference())
    found = {"difference": np.asarray(gemm()), "nonuniform_difference": np.asarray(spread())}
    jax.block_until_ready(slope(positions))
    times: dict[str, list[float]] = {"gemm": [], "nonuniform": [], "direct": [], "gradient": []}
    for _ in range(config.repeats):
        times["nonuniform"].append(_seconds(spread))
        times["direct"].append(_seconds(reference) * n / planes)
        times["gemm"].append(_seconds(gemm))
        times["gradient"].append(_seconds(lambda: jax.block_until_ready(slope(positions))))
    medians = {name: statistics.median(values) for name, values in times.items()}
    middle = slice(n // 2 - planes // 2, n // 2 - planes // 2 + planes)
    errors = {name: float(np.abs(sums[middle] - exact).max() / np.abs(sums).max()) for name, sums in found.items()}
    return medians | errors


def _seconds(call: Callable) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@style()
def _bars(rate: dict[str, float], atoms: dict[str, float]) -> Figure:
    figure, axes = new_figure(1, 2, (10, 3.6))
    left, right = axes[0]
    labels = {"jax": "jaxsci", "numpy": "NumPy, same\nalgorithm", "scipy_fft": "NumPy, padded\nSciPy FFT"}
    bars = left.bar(list(labels.values()), [rate[name] for name in labels], color=[BLUE, GREY, GREY])
    left.bar_label(bars, fmt="%.0f")
    left.set(ylabel="patterns per second")
    names = {
        "direct": "direct sum",
        "gemm": "blocked GEMM",
        "gradient": "GEMM with\ngradient",
        "nonuniform": "non-uniform\nFFT",
    }
    bars = right.bar(list(names.values()), [atoms[name] for name in names], color=[GREY, BLUE, ORANGE, BLUE])
    right.bar_label(bars, fmt="%.2g s")
    right.set(ylabel="seconds", yscale="log")
    return figure


@style()
def _slices(atomistic: Array, continua: list[Array], against: list[float]) -> Figure:
    figure, axes = new_figure(1, 1 + len(continua), (12, 3.4))
    titles = ["atoms", *(f"{m} a voxel: R = {r:.3f}" for m, r in zip(OVERSAMPLINGS, against, strict=True))]
    for axis, volume, title in zip(axes[0], [atomistic, *continua], titles, strict=True):
        picture = np.log10(np.asarray(volume[volume.shape[0] // 2]) + 1e-9)
        image = axis.imshow(picture.T, origin="lower", vmin=-6, vmax=0)
        axis.set(title=title, xticks=[], yticks=[])
        axis.grid(False)
    figure.colorbar(image, ax=list(axes[0]), label="log10 I / I max", shrink=0.8)
    return figure
