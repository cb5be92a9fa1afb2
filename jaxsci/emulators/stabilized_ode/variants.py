"""The compared models as typed configs: which linear term, which network, which guards, which integrator."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxsci.core.config import between, positive, require
from jaxsci.emulators.stabilized_ode.guard import RadialClip
from jaxsci.emulators.stabilized_ode.linear import (
    Banded,
    FixedSymbol,
    FreeSymbol,
    LinearTerm,
    NoTerm,
    PolynomialSymbol,
    Stencil,
)
from jaxsci.emulators.stabilized_ode.model import Integrator, StabilizedOde
from jaxsci.emulators.stabilized_ode.nonlinear import CircularCnn, FluxCnn, Mlp, Nonlinear, SkewCnn
from jaxsci.emulators.stabilized_ode.warm_start import fit_polynomial, fit_stencil


@dataclass(frozen=True)
class VariantConfig:
    """One model.

    - `linear`: `none` (the standard neural ODE), `fixed` (the PDE's own symbol, not trained), `stencil` (`taps`),
      `polynomial` (`orders`), `free`.
    - `banded`: no growth above the wavenumber `cut` of the system.
    - `nonlinear`: `mlp` of the whole state, or local networks (`reach` neighbours each side): `cnn`, `flux`, `skew`.
    - `width`, `depth`: of the hidden layers.
    - `dealias`: two-thirds mask on the nonlinear term. `guard`: clip of the energy in long rollouts, off in training.
    - `integrator`, `substeps`: see `StabilizedOde`.

    Good values: 200 x 3 for the mlp (Linot et al. 2023), 16 x 2 with reach 1 for local ones.
    """

    linear: Literal["none", "fixed", "stencil", "polynomial", "free"]
    nonlinear: Literal["mlp", "cnn", "flux", "skew"]
    banded: bool = False
    taps: int = 5
    orders: int = 4
    reach: int = 1
    width: int = 200
    depth: int = 3
    dealias: bool = False
    guard: bool = False
    integrator: Integrator = "etdrk4"
    substeps: int = 1

    def __post_init__(self) -> None:
        between(self, "taps", 3, 65)
        require(self.taps % 2 == 1, "taps", "an odd number", self.taps)
        between(self, "orders", 1, 8)
        between(self, "reach", 0, 64)
        positive(self, "width", "depth", "substeps")
        require(not self.banded or self.linear not in ("none", "fixed"), "banded", "false without a learned A", True)


@dataclass(frozen=True)
class Domain:
    """What a model has to know of its system: grid, circle, data spacing, the PDE's symbol and the guard's energy."""

    points: int
    length: float
    dt: float
    symbol: tuple[float, ...]
    """Coefficients of `(ik)^p`, from p = 1: (0, -1, 0, -1) for Kuramoto-Sivashinsky."""
    cut: float
    """Wavenumber above which a banded term may not grow."""
    energy_limit: float
    """Twice the largest energy on the attractor, or of the starts."""
    substeps: int = 1
    """Steps of the integrator in `dt` that accuracy asks for; a variant's own `substeps` multiply them."""


def linear_start(config: VariantConfig, domain: Domain, u: np.ndarray, slope: np.ndarray) -> Array | None:
    """Parameters of a learned linear term from joint regression on states `[states n]` and their time derivatives."""
    if config.linear == "stencil":
        return jnp.asarray(fit_stencil(u, slope, domain.length, config.taps).linear, jnp.float32)
    if config.linear in ("polynomial", "free"):
        return jnp.asarray(fit_polynomial(u, slope, domain.length, config.orders).linear, jnp.float32)
    return None


def build_model(
    config: VariantConfig, domain: Domain, start: Array | None = None, *, key: PRNGKeyArray
) -> StabilizedOde:
    """A fresh model without guard; `start` as `linear_start` gave it, otherwise zeros."""
    return StabilizedOde(
        linear=_linear(config, domain, start),
        nonlinear=_nonlinear(config, domain.points, key),
        length=domain.length,
        dt=domain.dt,
        integrator=config.integrator,
        substeps=config.substeps * domain.substeps,
        dealias=config.dealias,
    )


def guarded(model: StabilizedOde, config: VariantConfig, domain: Domain) -> StabilizedOde:
    """The model as it is used after training."""
    if not config.guard:
        return model
    return replace(model, clip=RadialClip(domain.energy_limit))


def _linear(config: VariantConfig, domain: Domain, start: Array | None) -> LinearTerm:
    if config.linear == "none":
        return NoTerm()
    if config.linear == "fixed":
        return FixedSymbol(domain.symbol)
    if config.linear == "stencil":
        term: LinearTerm = Stencil(jnp.zeros(config.taps, jnp.float32) if start is None else start)
    else:
        polynomial = PolynomialSymbol(jnp.zeros(config.orders, jnp.float32) if start is None else start)
        term = polynomial
        if config.linear == "free":
            symbol = polynomial.symbol(domain.points, domain.length).astype(jnp.complex64)
            term = FreeSymbol(symbol.real, symbol.imag)
    return Banded(term, domain.cut) if config.banded else term


def _nonlinear(config: VariantConfig, points: int, key: PRNGKeyArray) -> Nonlinear:
    if config.nonlinear == "mlp":
        return Mlp(points, config.width, config.depth, key=key)
    kinds = {"cnn": CircularCnn, "flux": FluxCnn, "skew": SkewCnn}
    return kinds[config.nonlinear](config.reach, config.width, config.depth, key=key)


def seeds(
    config: VariantConfig, domain: Domain, start: Array | None, count: int, *, key: PRNGKeyArray
) -> StabilizedOde:
    """`count` models, as one with a leading axis; seed i is the same for every `count`."""
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
    models = [build_model(config, domain, start, key=k) for k in keys]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
