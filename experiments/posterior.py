"""Three posteriors of one assimilation problem compared: Laplace's, an ensemble of assimilations, and NUTS."""

import time
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.settings import Settings
from jaxsci.assimilation.background import Background
from jaxsci.assimilation.observation import observe
from jaxsci.assimilation.posterior import assimilate_ensemble, laplace, nuts
from jaxsci.assimilation.probabilistic_scores import crps_ensemble, ensemble_coverage
from jaxsci.assimilation.variational import NOT_FINITE, GaussNewton, Window, assimilate
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import JaxsciError
from jaxsci.core.figures import BLUE, GREEN, GREY, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rollout import rollout
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.dynamics import Lorenz96

METHODS = {"laplace": ("Laplace", BLUE), "eda": ("ensemble of assimilations", ORANGE), "nuts": ("NUTS", GREEN)}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Windows of Lorenz-96, every `observed_every`-th variable observed at each of `steps + 1` times.

    The longer the window and the wider the background (`background_std` at each site), the less Gaussian the posterior.
    """

    sites: int = 20
    windows: int = 6
    steps: int = 10
    observed_every: int = 2
    background_std: float = 1.0
    noise_std: float = 0.5
    samples: int = 1000
    warmup: int = 500
    max_iterations: int = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "sites", 4, 200)
        between(self, "steps", 1, 1000)
        between(self, "observed_every", 1, self.sites)
        positive(self, "windows", "background_std", "noise_std", "warmup", "max_iterations")
        between(self, "samples", 10, 10**6)
        require(self.precision == "float64", "precision", "float64", self.precision)


class Case(NamedTuple):
    """One window: draws of the state at its start by method (samples, sites), and what there is to know of them."""

    draws: dict[str, np.ndarray]
    seconds: dict[str, float]
    truth: Float[np.ndarray, " sites"]
    divergences: int
    effective: float
    """Least effective number of NUTS samples of a control."""


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    cases = []
    with progress(config.windows, "posteriors") as bar:
        for index in range(config.windows):
            cases.append(_case(config, jax.random.fold_in(jax.random.key(config.seed), index)))
            run.log({f"crps_{name}": _crps(cases[-1], name) for name in METHODS}, index)
            bar.update(divergences=cases[-1].divergences)
    return _summary(config, cases), _report(config, run, cases)


def _case(config: Config, key: Array) -> Case:
    model = Lorenz96()
    for_truth, for_background, for_noise, for_draws = jax.random.split(key, 4)
    first = jnp.zeros(config.sites).at[0].set(1.0) + jax.random.normal(for_truth, (config.sites,))
    truth = rollout(model, 500 + config.steps)(first)[500 - 1 :]
    mean = truth[0] + config.background_std * jax.random.normal(for_background, (config.sites,))
    places = np.arange(0, config.sites, config.observed_every)
    values = truth[:, places] + config.noise_std * jax.random.normal(for_noise, (len(truth), len(places)))
    background = Background(mean, config.background_std * jnp.eye(config.sites))
    observations = observe(values, lambda u: u[places], config.noise_std**2 * jnp.eye(len(places)))
    window, method = Window(model, background, observations), GaussNewton(config.max_iterations)
    solution = jax.jit(lambda: assimilate(window, method))()
    if int(solution.code) == NOT_FINITE:
        raise JaxsciError("4D-Var diverged; take fewer steps or a smaller background_std")
    keys = jax.random.split(for_draws, 3)
    seconds, draws = {}, {}
    begin = time.perf_counter()
    draws["laplace"] = laplace(window, solution.control, samples=config.samples, key=keys[0])
    seconds["laplace"] = time.perf_counter() - begin
    begin = time.perf_counter()
    members = jax.jit(lambda k: assimilate_ensemble(window, method, members=config.samples, key=k).control)(keys[1])
    draws["eda"] = jax.block_until_ready(members)
    seconds["eda"] = time.perf_counter() - begin
    begin = time.perf_counter()
    chain = nuts(window, solution.control, samples=config.samples, warmup=config.warmup, key=keys[2])
    if not bool(jnp.all(jnp.std(chain.samples, axis=0) > 0)):
        raise JaxsciError("NUTS did not leave its start; raise warmup, or take fewer steps")
    draws["nuts"] = chain.samples
    seconds["nuts"] = time.perf_counter() - begin
    states = {name: np.asarray(jax.vmap(background)(drawn)) for name, drawn in draws.items()}
    return Case(states, seconds, np.asarray(truth[0]), int(chain.divergences), float(chain.effective.min()))


def _crps(case: Case, name: str) -> float:
    return float(jnp.mean(crps_ensemble(jnp.asarray(case.draws[name]), jnp.asarray(case.truth))))


def _distance(case: Case, name: str) -> tuple[float, float]:
    """From NUTS: RMS difference of means in posterior deviations, and mean ratio of deviations."""
    ours, exact = case.draws[name], case.draws["nuts"]
    deviation = exact.std(axis=0)
    means = np.sqrt(np.mean(np.square((ours.mean(axis=0) - exact.mean(axis=0)) / deviation)))
    return float(means), float(np.mean(ours.std(axis=0) / deviation))


def _summary(config: Config, cases: list[Case]) -> Summary:
    metrics: dict[str, float] = {}
    for name in METHODS:
        inside = [ensemble_coverage(jnp.asarray(c.draws[name]), jnp.asarray(c.truth)) for c in cases]
        metrics[f"crps_{name}"] = float(np.mean([_crps(case, name) for case in cases]))
        metrics[f"coverage_90_{name}"] = float(np.mean(np.asarray(inside)))
        metrics[f"rmse_of_mean_{name}"] = float(
            np.sqrt(np.mean([np.square(c.draws[name].mean(axis=0) - c.truth) for c in cases]))
        )
        metrics[f"seconds_{name}"] = float(np.median([case.seconds[name] for case in cases]))
        if name != "nuts":
            far = np.array([_distance(case, name) for case in cases])
            metrics[f"mean_apart_from_nuts_{name}"] = float(far[:, 0].mean())
            metrics[f"deviation_over_nuts_{name}"] = float(far[:, 1].mean())
    metrics["nuts_divergences"] = float(sum(case.divergences for case in cases))
    metrics["nuts_least_effective_samples"] = float(min(case.effective for case in cases))
    references = {f"coverage_90_{name}": Reference(0.9, "nominal") for name in METHODS}
    references |= {f"deviation_over_nuts_{name}": Reference(1.0, "NUTS") for name in ("laplace", "eda")}
    references |= {f"crps_{name}": Reference(metrics["crps_nuts"], "NUTS") for name in ("laplace", "eda")}
    notes = (
        "mean_apart_from_nuts: RMS difference of the means in posterior standard deviations. NUTS itself knows its "
        f"mean to about {1 / np.sqrt(max(metrics['nuts_least_effective_samples'], 1.0)):.2f} of one.",
        "seconds include compilation, once per window.",
    )
    return Summary("posterior", metrics, references, {}, notes)


def _report(config: Config, run: Run, cases: list[Case]) -> Report:
    page = Report(
        "Three posteriors of one assimilation",
        f"How sure may 4D-Var be? {config.windows} windows of Lorenz-96 ({config.sites} sites, {config.steps} steps, "
        f"every {config.observed_every}. site observed): the Gauss-Newton covariance, an ensemble of perturbed "
        "assimilations, and NUTS, which is exact but for sampling.",
    )
    page.figure(
        "marginals",
        run.figure("marginals", draw_marginals(cases)),
        "The four marginals furthest from a Gaussian (by NUTS' skewness): where the posterior leans, Laplace's cannot.",
    )
    page.figure(
        "deviations",
        run.figure("deviations", draw_deviations(cases)),
        "Posterior standard deviation and mean of every site and window against those of NUTS.",
    )
    return page.table(
        "Windows",
        ("window", *(f"CRPS, {label}" for label, _ in METHODS.values()), "Laplace: deviation / NUTS",
         "ensemble: deviation / NUTS", "NUTS effective samples"),
        [
            (i, *(_crps(case, name) for name in METHODS), _distance(case, "laplace")[1], _distance(case, "eda")[1],
             case.effective)
            for i, case in enumerate(cases)
        ],
    )  # fmt: skip


@style()
def draw_marginals(cases: list[Case]) -> Figure:
    def skewness(draws: np.ndarray) -> np.ndarray:
        return np.abs(np.mean(((draws - draws.mean(axis=0)) / draws.std(axis=0)) ** 3, axis=0))

    ranked = sorted(
        ((s, case, site) for case in cases for site, s in enumerate(skewness(case.draws["nuts"]))),
        key=lambda entry: -entry[0],
    )[:4]
    figure, axes = new_figure(1, 4, (12, 3.4))
    for axis, (_, case, site) in zip(axes[0], ranked, strict=True):
        low, high = np.quantile(np.concatenate([d[:, site] for d in case.draws.values()]), (0.002, 0.998))
        for name, (label, colour) in METHODS.items():
            axis.hist(case.draws[name][:, site], np.linspace(low, high, 40), density=True, histtype="step",
                      color=colour, linewidth=1.6, label=label)  # fmt: skip
        axis.axvline(case.truth[site], color=GREY, linestyle="--", label="truth")
        axis.set(xlabel=f"state at site {site}", yticks=[])
    axes[0, 0].set_ylabel("density")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


@style()
def draw_deviations(cases: list[Case]) -> Figure:
    figure, axes = new_figure(1, 2, (10, 4.4))
    for name in ("eda", "laplace"):
        label, colour = METHODS[name]
        exact = np.concatenate([case.draws["nuts"].std(axis=0) for case in cases])
        ours = np.concatenate([case.draws[name].std(axis=0) for case in cases])
        axes[0, 0].plot(exact, ours, "o", color=colour, markersize=4, alpha=0.7, label=label)
        apart = [c.draws[name].mean(axis=0) - c.draws["nuts"].mean(axis=0) for c in cases]
        axes[0, 1].plot(exact, np.concatenate(apart), "o", color=colour, markersize=4, alpha=0.7, label=label)
    top = axes[0, 0].get_xlim()[1]
    axes[0, 0].plot([0, top], [0, top], "--", color=GREY, linewidth=1)
    axes[0, 0].set(title="standard deviation", xlabel="NUTS", ylabel="others")
    axes[0, 1].axhline(0, color=GREY, linestyle="--", linewidth=1)
    axes[0, 1].set(title="mean", xlabel="standard deviation of NUTS", ylabel="mean less that of NUTS")
    axes[0, 0].legend()
    return figure
