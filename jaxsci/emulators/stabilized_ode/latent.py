"""The same split in a latent space, of POD or an autoencoder: a dense linear term, solved exactly, and a network."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.config import positive
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.rollout import rollout
from jaxsci.core.train import fit, init_state, make_step
from jaxsci.dynamics.etdrk import dense_tableau, etdrk_step
from jaxsci.emulators.pod import Pod
from jaxsci.emulators.stabilized_ode.linear import DenseTerm, highest
from jaxsci.emulators.stabilized_ode.model import StepMap
from jaxsci.emulators.stabilized_ode.nonlinear import Layers


class LatentOde(eqx.Module):
    """`dz/dt = A z + N(z)` with a matrix A, by dense ETDRK4."""

    linear: DenseTerm
    nonlinear: Layers
    dt: float = eqx.field(static=True)
    substeps: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        positive(self, "dt", "substeps")

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.step_map(z)(z)

    def right_hand_side(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """`A z + N(z)`."""
        return self.linear.matrix.astype(z.dtype) @ z + self.nonlinear(z)

    def step_map(self, like: Float[Array, " d"]) -> StepMap:
        """`z -> z(t + dt)`, with the exponentials of A computed here."""
        tableau = dense_tableau(highest(self.linear.matrix), self.dt / self.substeps).astype(like.dtype)
        step = etdrk_step(tableau, self.nonlinear)
        return lambda z: jax.lax.scan(lambda w, _: (step(w), None), z, None, length=self.substeps)[0]


class Autoencoder(eqx.Module):
    """POD plus corrections: `z = P u + E(u)`, `u = P^T z + D(z)`; the networks learn only what POD cannot do.

    Source: Linot and Graham 2020, Phys. Rev. E 101, 062209 (the hybrid form).
    """

    pod: Pod
    encoder: Layers
    decoder: Layers

    def encode(self, u: Float[Array, "*batch n"]) -> Float[Array, "*batch d"]:
        """The latent state of a field."""
        return self.pod.encode(u).astype(u.dtype) + self.encoder(u)

    def decode(self, z: Float[Array, "*batch d"]) -> Float[Array, "*batch n"]:
        """The field of a latent state."""
        return self.pod.decode(z).astype(z.dtype) + self.decoder(z)


def autoencoder(pod: Pod, width: int, *, key: PRNGKeyArray) -> Autoencoder:
    """Starts as POD: the corrections begin at a hundredth of a usual network's size."""
    points, d = pod.modes.shape
    encoder, decoder = (Layers(sizes, key=k) for sizes, k in zip(
        ((points, width, d), (d, width, points)), jax.random.split(key), strict=True
    ))  # fmt: skip
    small = lambda layers: eqx.tree_at(lambda n: n.weights[-1], layers, 0.01 * layers.weights[-1])  # noqa: E731
    return Autoencoder(pod, small(encoder), small(decoder))


class Fitted(NamedTuple):
    """A trained model and the losses logged on the way."""

    model: Any
    losses: Float[np.ndarray, " logs"]


def fit_autoencoder(
    model: Autoencoder, u: Float[Array, "states n"], *, steps: int, batch: int, key: PRNGKeyArray
) -> Fitted:
    """Mean squared reconstruction error, the POD basis fixed."""
    frozen = jax.tree.map(lambda _: False, model.pod)
    learned = eqx.tree_at(lambda m: m.pod, jax.tree.map(eqx.is_inexact_array, model), frozen)

    def loss(model: Autoencoder, states: Array) -> Array:
        return jnp.mean(jnp.square(model.decode(model.encode(states)) - states))

    return _fit(model, learned, loss, lambda k: u[jax.random.randint(k, (batch,), 0, len(u))], steps, key)


def fit_latent(
    z: Float[Array, "trajectories time d"],
    *,
    dt: float,
    width: int,
    depth: int,
    steps: int,
    batch: int,
    windows: int,
    key: PRNGKeyArray,
) -> Fitted:
    """A `LatentOde` on trajectories of latent states, by mean absolute error over `windows` steps.

    A starts as the linear part of a least-squares fit of dz/dt on z and all products of two of its components.
    """
    begin, draw = jax.random.split(key)
    d = z.shape[-1]
    model = LatentOde(
        DenseTerm(_linear_part(np.asarray(z, np.float64), dt)), Layers((d, *[width] * depth, d), key=begin), dt
    )
    span = jnp.arange(windows + 1)

    def loss(model: LatentOde, batch_of: Array) -> Array:
        starts = batch_of[:, 0]
        ahead = jax.vmap(rollout(model.step_map(starts[0]), windows))(starts)
        return jnp.mean(jnp.abs(ahead - batch_of[:, 1:]))

    def draw_batch(k: PRNGKeyArray) -> Array:
        which, when = jax.random.split(k)
        row = jax.random.randint(which, (batch, 1), 0, z.shape[0])
        return z[row, jax.random.randint(when, (batch, 1), 0, z.shape[1] - windows) + span]

    return _fit(model, jax.tree.map(eqx.is_inexact_array, model), loss, draw_batch, steps, draw)


def _linear_part(z: np.ndarray, dt: float) -> Array:
    slope = ((z[:, 2:] - z[:, :-2]) / (2 * dt)).reshape(-1, z.shape[-1])
    inner = z[:, 1:-1].reshape(-1, z.shape[-1])
    first, second = np.triu_indices(z.shape[-1])
    features = np.concatenate([inner, inner[:, first] * inner[:, second]], axis=1)
    found, *_ = np.linalg.lstsq(features, slope, rcond=None)
    return jnp.asarray(found[: z.shape[-1]].T, jnp.float32)


def _fit(model: Any, learned: Any, loss_of: Callable, draw_batch: Callable, steps: int, key: PRNGKeyArray) -> Fitted:
    params, static = eqx.partition(model, learned)
    optimizer = OptimizerConfig("adam", 1e-3, "cosine", final_fraction=0.02, clip_norm=1.0).build(steps)
    losses: list[float] = []

    def loss(params: Any, batch: Array, *, key: PRNGKeyArray) -> tuple[Array, dict]:
        return loss_of(eqx.combine(params, static), batch), {}

    step = make_step(
        loss, optimizer, batch_at=lambda n: draw_batch(jax.random.fold_in(key, n)), steps_per_dispatch=min(50, steps)
    )
    outcome = fit(
        init_state(params, optimizer, key=key),
        step,
        steps=steps,
        log_every=50,
        on_log=lambda row, _: losses.append(row["loss"]),
    )
    return Fitted(eqx.combine(outcome.state.params, static), np.array(losses))
