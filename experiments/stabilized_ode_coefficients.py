"""What the learned linear term is good for besides: a reduced model on its modes, a posterior of its coefficients."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.assimilation.probabilistic_scores import crps_ensemble, ensemble_coverage
from jaxsci.core.config import between, positive
from jaxsci.core.report import Report
from jaxsci.core.rollout import rollout
from jaxsci.dynamics.attractor_statistics import joint_density, joint_divergence
from jaxsci.dynamics.forecast_skill import valid_time
from jaxsci.dynamics.lyapunov import gaps
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.posterior import coefficient_posterior, forecast_ensemble
from jaxsci.emulators.stabilized_ode.rom import SpectralRom, modes_above

if TYPE_CHECKING:
    from experiments.stabilized_ode import Config
    from experiments.stabilized_ode_attractor import Truth

ORDERS = (2, 4)  # of the linear term whose coefficients are inferred


@dataclass(frozen=True)
class CoefficientsEvaluation:
    """The reduced model keeps the modes with `Re lambda > rom_rate`.

    The posterior comes from `starts` pairs of states, the second observed `steps` steps later with noise of standard
    deviation `noise`; priors have standard deviation `prior`. `members` forecasts then start from each of `starts`
    states, with coefficients from the posterior. `draws = 0` leaves the posterior out.
    """

    rom_rate: float = -2.0
    draws: int = 200
    starts: int = 8
    steps: int = 8
    noise: float = 0.05
    prior: float = 0.3
    members: int = 20

    def __post_init__(self) -> None:
        between(self, "draws", 0, 10**5)
        positive(self, "starts", "steps", "noise", "prior", "members")


class Findings(NamedTuple):
    metrics: dict[str, float]
    rows: list[tuple]


def judge(
    models: StabilizedOde, config: "Config", truth: "Truth", exponents: np.ndarray, *, key: jax.Array
) -> Findings:
    """Of the first seed of the variant `ours`."""
    ask, system = config.coefficients, config.system
    model = jax.tree.map(lambda leaf: leaf[0] if isinstance(leaf, jax.Array) else leaf, models)
    rom = SpectralRom(model, modes_above(model, system.points, ask.rom_rate), system.points)
    starts, after = jnp.asarray(truth.forecast[:, 0]), jnp.asarray(truth.forecast[:, 1:])
    z = jax.vmap(rom.encode)(starts)
    step = rom.step_map(z[0])

    @jax.jit
    def reduced(z: jax.Array) -> jax.Array:
        return jax.vmap(jax.vmap(rom.decode))(jax.vmap(rollout(step, after.shape[1]))(z))

    ahead = reduced(z)
    half = np.asarray(ahead)[:, after.shape[1] // 2 :]
    metrics = {
        "rom_dimension": float(rom.dimension),
        "rom_valid_time": float(jnp.mean(valid_time(ahead, after, system.dt))),
        "rom_kl": joint_divergence(truth.joint, joint_density(half, system.length)).kl,
    }
    candidates = ", ".join(f"{d} (ratio {ratio:.2g})" for d, ratio in gaps(exponents)[:3]) or "none among so few"
    rows = [
        ("reduced model: dimension, from Re λ > " + f"{ask.rom_rate:g}", f"{rom.dimension}"),
        ("reduced model: valid time", f"{metrics['rom_valid_time']:.3g}"),
        ("dimensions that the gaps of the exponents propose", candidates),
    ]
    if ask.draws:
        more, lines = _posterior(model, config, truth, key=key)
        metrics, rows = metrics | more, rows + lines
    return Findings(metrics, rows)


def _posterior(model: StabilizedOde, config: "Config", truth: "Truth", *, key: jax.Array) -> tuple[dict, list]:
    ask, system = config.coefficients, config.system
    exact = [system.domain().symbol[p - 1] for p in ORDERS]
    starts, ends = (jnp.asarray(truth.forecast[: ask.starts, t]) for t in (0, ask.steps))
    for_noise, for_draws = jax.random.split(key)
    observed = ends + ask.noise * jax.random.normal(for_noise, ends.shape)
    found = coefficient_posterior(
        model,
        starts,
        observed,
        steps=ask.steps,
        orders=ORDERS,
        prior_mean=[c * (1 + 0.5 * ask.prior) for c in exact],  # off the truth, as priors are
        prior_deviation=[ask.prior] * len(ORDERS),
        draws=ask.draws,
        warmup=ask.draws,
        key=for_draws,
    )
    low, high = found.interval(0.9)
    begin = truth.forecast[-ask.starts :]
    steps = min(10 * ask.steps, begin.shape[1] - 1)
    members = jax.jit(jax.vmap(lambda u: forecast_ensemble(model, found, ORDERS, u, steps=steps, members=ask.members)))(
        jnp.asarray(begin[:, 0])
    )
    end, target = jnp.moveaxis(members[:, :, -1], 1, 0), jnp.asarray(begin[:, steps])
    metrics = {
        "posterior_truth_covered_share": float(np.mean((low <= exact) & (exact <= high))),
        "posterior_forecast_crps": float(jnp.mean(crps_ensemble(end, target))),
        "posterior_forecast_coverage_90": float(ensemble_coverage(end, target)),
        "posterior_divergent_share": found.divergences / ask.draws,
    }
    mean = found.coefficients.mean(axis=0)
    metrics |= {f"posterior_c{p}": float(value) for p, value in zip(ORDERS, mean, strict=True)}
    absolute = float(jnp.mean(jnp.abs(jnp.mean(end, axis=0) - target)))
    rows = [
        (f"posterior of c{p} (true {c:g}), 90 %", f"{m:.4f} [{a:.4f}, {b:.4f}]")
        for p, c, m, a, b in zip(ORDERS, exact, mean, low, high, strict=True)
    ]
    rows.append(
        (
            f"forecasts {steps * system.dt:g} ahead: CRPS, coverage of 90 %",
            f"{metrics['posterior_forecast_crps']:.3g} (mean alone {absolute:.3g}), "
            f"{metrics['posterior_forecast_coverage_90']:.2f}",
        )
    )
    return metrics, rows


def add_to(page: Report, findings: Findings) -> None:
    page.table("The learned linear term of ours, first seed", ("what", "found"), findings.rows)
