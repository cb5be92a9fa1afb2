"""Pictures of learned periodic models: space-time plots, errors, spectra, densities, survival."""

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import AMBER, BLUE, DIFFERENCE_MAP, GREEN, GREY, ORANGE, PURPLE, new_figure, style
from jaxsci.dynamics.attractor_statistics import Bins
from jaxsci.dynamics.periodic import wavenumbers
from jaxsci.emulators.stabilized_ode.systems import PeriodicSystem

COLOURS = {"standard": ORANGE, "fixed_linear": GREEN, "cnn": PURPLE, "ours": BLUE}
TITLES = {"standard": "standard", "fixed_linear": "fixed linear", "cnn": "CNN linear", "ours": "ours"}


@style()
def space_time(truth: np.ndarray, forecasts: dict[str, np.ndarray], system: PeriodicSystem) -> Figure:
    """`[times n]` each; time runs to the right."""
    panels = {"truth": truth, **{TITLES[name]: field for name, field in forecasts.items()}}
    figure, axes = new_figure(len(panels), 1, (10, 1.5 * len(panels) + 0.8))
    limit = float(np.abs(truth).max())
    times = system.dt * np.arange(1, len(truth) + 1)
    x = system.length * np.arange(system.points) / system.points
    for axis, (title, field) in zip(axes[:, 0], panels.items(), strict=True):
        shown = np.where(np.abs(field) < 10 * limit, field, np.nan)
        image = axis.pcolormesh(times, x, shown.T, cmap=DIFFERENCE_MAP, vmin=-limit, vmax=limit, rasterized=True)
        axis.set(title=title, ylabel="x", xlim=(0, times[-1]))
        axis.grid(False)
        axis.label_outer()
    axes[-1, 0].set_xlabel("time")
    figure.colorbar(image, ax=axes[:, 0], label="u", shrink=0.6)
    return figure


@style()
def errors(by_name: dict[str, np.ndarray], dt: float, exponent: float | None) -> Figure:
    """`[seeds times]` each."""
    figure, axes = new_figure(1, 1, (9, 4.4))
    axis = axes[0, 0]
    for name, values in by_name.items():
        times = dt * np.arange(1, values.shape[-1] + 1)
        for seed in values:
            axis.semilogy(times, seed, color=COLOURS[name], alpha=0.25, linewidth=0.8)
        axis.semilogy(times, values.mean(axis=0), color=COLOURS[name], label=TITLES[name])
    axis.axhline(0.3, color=GREY, linestyle="--", linewidth=1, label="valid below 0.3")
    if exponent is not None and exponent > 0:
        axis.axvline(1 / exponent, color=AMBER, linestyle=":", label="one Lyapunov time")
    axis.set(xlabel="time", ylabel="relative error", ylim=(1e-4, 5), xlim=(0, None))
    axis.legend(ncols=2, loc="lower right")
    return figure


@style()
def spectra(
    truth: np.ndarray, by_name: dict[str, np.ndarray], symbols: dict[str, np.ndarray], system: PeriodicSystem
) -> Figure:
    """`truth [.. n]` are states; `by_name` energy spectra `[seeds frequencies]`; `symbols` growth rates."""
    n = system.points
    power = np.abs(np.fft.rfft(truth, axis=-1) / n) ** 2
    reference = power.reshape(-1, n // 2 + 1).mean(axis=0)
    figure, axes = new_figure(1, 2, (11, 4.4))
    left, right = axes[0]
    modes = np.arange(n // 2 + 1)
    left.semilogy(modes[1:], np.maximum(reference[1:], 1e-30), color="black", label="truth", linewidth=3, alpha=0.5)
    for name, values in by_name.items():
        mean = np.where(np.isfinite(values), values, np.nan).mean(axis=0)
        left.semilogy(modes[1:], np.maximum(mean[1:], 1e-30), color=COLOURS[name], label=TITLES[name])
    left.set(title="energy spectrum", xlabel="mode n", ylabel="energy", ylim=(1e-24, 10))
    left.legend(loc="lower left")
    k = wavenumbers(n, system.length)
    exact = np.zeros(n // 2 + 1)
    for p, c in enumerate(system.domain().symbol, start=1):
        exact = exact + c * np.real((1j * k) ** p)
    right.plot(modes, exact, color="black", linewidth=3, alpha=0.5, label="truth")
    for name, symbol in symbols.items():
        if np.any(symbol):
            right.plot(modes, np.real(symbol), color=COLOURS[name], label=TITLES[name])
    right.set_yscale("symlog", linthresh=0.1)
    right.set(title="linear term", xlabel="mode n", ylabel="Re λ")
    right.legend(loc="lower left")
    return figure


@style()
def densities(truth: np.ndarray, by_name: dict[str, np.ndarray], bins: Bins) -> Figure:
    panels = {"truth": truth, **{TITLES[name]: density for name, density in by_name.items()}}
    figure, axes = new_figure(1, len(panels), (2.6 * len(panels) + 0.8, 3.2))
    low, high = -6.0, float(np.log10(truth.max()))
    for axis, (title, density) in zip(axes[0], panels.items(), strict=True):
        logarithm = np.where(density > 0, np.log10(np.maximum(density, 1e-12)), np.nan)
        image = axis.imshow(
            logarithm.T, origin="lower", extent=(*bins.slope, *bins.bend), aspect="auto", vmin=low, vmax=high
        )
        axis.set(title=title, xlabel="u_x", ylabel="u_xx")
        axis.grid(False)
        axis.label_outer()
    figure.colorbar(image, ax=axes[0], label="log10 share", shrink=0.9)
    return figure


@style()
def survival_curves(energies: dict[str, np.ndarray], noise: tuple[float, ...], bin_time: float, limit: float) -> Figure:
    """`energies [seeds noise bins]`: share of seeds that stay bounded from each time's predecessors on."""
    figure, axes = new_figure(1, len(noise), (2.8 * len(noise) + 0.6, 3.4))
    longest = max(e.shape[-1] for e in energies.values())
    for column, (axis, rms) in enumerate(zip(axes[0], noise, strict=True)):
        for offset, (name, values) in enumerate(energies.items()):
            late = values[:, column, 1:]  # the first bin is the time allowed for recovery
            alive = np.logical_and.accumulate(late <= limit, axis=-1).mean(axis=0)
            alive = np.append(alive, np.repeat(alive[-1:], longest - 1 - len(alive)))
            times = bin_time * np.arange(2, len(alive) + 2)
            axis.semilogx(times, alive + 0.008 * offset, color=COLOURS[name], label=TITLES[name])
        axis.set(title=f"noise {rms:g}", xlabel="time", ylim=(-0.05, 1.1))
        axis.label_outer()
    axes[0, 0].set_ylabel("share of seeds bounded")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure
