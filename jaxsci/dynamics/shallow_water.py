"""The shallow water equations on a periodic plane, by finite volumes, as a step map."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.config import positive
from jaxsci.core.errors import DataError

GHOSTS = 3  # cells on either side of the domain that a face at its edge looks at


class ShallowWater(eqx.Module):
    """Depth and momentum `q = (h, hu, hv)` with `q_t + F(q)_x + G(q)_y = 0`, stepped by dt.

    `F = (hu, hu^2 + g h^2 / 2, huv)`, `G = (hv, huv, hv^2 + g h^2 / 2)`. A state holds cell averages, x along axis 1
    and y along axis 2, both periodic with the same `spacing`; the depth is above zero everywhere.

    Reconstruction WENO5 (Jiang and Shu 1996, J. Comput. Phys. 126, 202-228, equations 2.14-2.17) of each component in
    each direction, local Lax-Friedrichs (Rusanov) flux, SSP-RK3 (Shu and Osher 1988, J. Comput. Phys. 77, 439-471,
    equation 2.18). Fifth order in space where the flow varies along one axis. In two dimensions the flux through a
    face is that of the face's mean state: formally second order, with a small constant.

    Good values: a unit square of 64 x 64 cells, `spacing=1/64, dt=1e-3` for depths up to 2; see `courant`.
    """

    spacing: float = eqx.field(static=True, default=1 / 64)
    dt: float = eqx.field(static=True, default=1e-3)
    gravity: float = eqx.field(static=True, default=9.8)

    def __check_init__(self) -> None:
        positive(self, "spacing", "dt", "gravity")

    def __call__(self, q: Float[Array, "3 nx ny"]) -> Float[Array, "3 nx ny"]:
        def stage(p: Array, kept: Array) -> tuple[Array, None]:
            return kept * q + (1 - kept) * (p + self.dt * self.tendency(p)), None

        # A loop over the three stages rather than three copies: XLA would fuse the copies and compute the inner ones
        # again and again (tangents become six times slower, compiling three times).
        return jax.lax.scan(stage, q, jnp.array([0, 3 / 4, 1 / 3], q.dtype))[0]

    def tendency(self, q: Float[Array, "3 nx ny"]) -> Float[Array, "3 nx ny"]:
        """`dq/dt` of the cell averages."""
        along_x = self._difference(q)
        # Along y the same code sees the transposed plane with u and v exchanged: x and y are treated bit by bit alike.
        along_y = _exchange(self._difference(_exchange(q)))
        return -(along_x + along_y) / self.spacing

    def courant(self, q: Float[Array, "3 nx ny"]) -> Float[Array, ""]:
        """`dt (max(|u| + c) + max(|v| + c)) / spacing` with `c = sqrt(g h)`: steps are stable up to about 1."""
        celerity = jnp.sqrt(self.gravity * q[0])
        fastest = [jnp.max(jnp.abs(momentum / q[0]) + celerity) for momentum in q[1:]]
        return self.dt * (fastest[0] + fastest[1]) / self.spacing

    def check(self, q: Float[Array | np.ndarray, "..."]) -> None:
        """Raise `DataError` for a state that is not finite or not above zero in depth, or too fast for `dt`."""
        if q.ndim != 3 or q.shape[0] != 3 or min(q.shape[1:]) < GHOSTS:
            raise DataError(f"state: expected (3, nx, ny) with {GHOSTS} cells or more a side, got {q.shape}")
        if not np.isfinite(q).all():
            raise DataError("state: expected finite values, got NaN or infinity")
        if not np.min(q[0]) > 0:
            raise DataError(f"state: expected a depth above 0 everywhere, the least is {np.min(q[0]):.3g}")
        courant = float(self.courant(jnp.asarray(q)))
        if courant > 1:
            raise DataError(
                f"dt: the Courant number is {courant:.2f}, expected 1 or less; take dt={self.dt / courant:.2g}"
            )

    def _difference(self, q: Float[Array, "3 nx ny"]) -> Float[Array, "3 nx ny"]:
        """Flux through the right face less that through the left face of each cell, along axis 1."""
        faces = q.shape[1] + 1
        wrapped = jnp.concatenate([q[:, -GHOSTS:], q, q[:, :GHOSTS]], axis=1)
        cells = [wrapped[:, i : i + faces] for i in range(2 * GHOSTS)]  # three cells on either side of each face
        left, right = _weno5(*cells[:5]), _weno5(*cells[:0:-1])
        flux_left, speed_left = self._flux(left)
        flux_right, speed_right = self._flux(right)
        flux = 0.5 * (flux_left + flux_right - jnp.maximum(speed_left, speed_right) * (right - left))
        return flux[:, 1:] - flux[:, :-1]

    def _flux(self, q: Float[Array, "3 faces ny"]) -> tuple[Float[Array, "3 faces ny"], Float[Array, "faces ny"]]:
        """`F(q)` and the speed of the fastest wave, `|u| + sqrt(g h)`."""
        h, hu, hv = q
        u = hu / h
        return jnp.stack([hu, hu * u + 0.5 * self.gravity * h * h, hv * u]), jnp.abs(u) + jnp.sqrt(self.gravity * h)


def gaussian_bump(
    centre: Float[Array, "2"],
    cells: int,
    *,
    width: Float[Array, ""] | float = 0.05,
    amplitude: Float[Array, ""] | float = 1.0,
) -> Float[Array, "3 cells cells"]:
    """Water at rest on [-1/2, 1/2]^2: depth `1 + amplitude exp(-d^2 / (2 width^2))`, d periodic distance to `centre`.

    Values at cell centres stand for cell averages. Source of the problem: Maulik et al. 2021, Phys. Fluids 33, 037106.
    """
    place = (jnp.arange(cells) + 0.5) / cells - 0.5
    x, y = ((place - c + 0.5) % 1.0 - 0.5 for c in centre)
    depth = 1.0 + amplitude * jnp.exp(-(x[:, None] ** 2 + y[None, :] ** 2) / (2 * width**2))
    return jnp.stack([depth, jnp.zeros_like(depth), jnp.zeros_like(depth)])


def _exchange(q: Float[Array, "3 nx ny"]) -> Float[Array, "3 ny nx"]:
    """The plane mirrored at its diagonal: x and y, u and v exchanged."""
    return jnp.stack([q[0].T, q[2].T, q[1].T])


def _weno5(a: Array, b: Array, c: Array, d: Array, e: Array) -> Array:
    """The value at the right face of the middle one of five cells, from their averages."""
    smooth_0 = 13 / 12 * jnp.square(a - 2 * b + c) + 1 / 4 * jnp.square(a - 4 * b + 3 * c)
    smooth_1 = 13 / 12 * jnp.square(b - 2 * c + d) + 1 / 4 * jnp.square(b - d)
    smooth_2 = 13 / 12 * jnp.square(c - 2 * d + e) + 1 / 4 * jnp.square(3 * c - 4 * d + e)
    e0, e1, e2 = 1e-6 + smooth_0, 1e-6 + smooth_1, 1e-6 + smooth_2
    # The weights 0.1 / e0^2, 0.6 / e1^2, 0.3 / e2^2, multiplied through by (e0 e1 e2)^2: one division instead of four.
    w0, w1, w2 = jnp.square(e1 * e2), 6 * jnp.square(e0 * e2), 3 * jnp.square(e0 * e1)
    value = w0 * (2 * a - 7 * b + 11 * c) + w1 * (-b + 5 * c + 2 * d) + w2 * (2 * c + 5 * d - e)
    return value / (6 * (w0 + w1 + w2))
