"""The shallow water equations on a periodic plane, by finite volumes, as a step map."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.config import one_of, positive
from jaxsci.core.errors import DataError
from jaxsci.dynamics.runge_kutta import ssp_runge_kutta_3
from jaxsci.dynamics.weno import Reconstruction, weno5_js, weno5_z

GHOSTS = 3  # cells on either side of the domain that a face at its edge looks at


class ShallowWater(eqx.Module):
    """Depth and momentum `q = (h, hu, hv)` with `q_t + F(q)_x + G(q)_y = -g h (0, b_x, b_y)`, stepped by dt.

    `F = (hu, hu^2 + g h^2 / 2, huv)`, `G = (hv, huv, hv^2 + g h^2 / 2)`, `b` the height of the bottom (flat where
    `bottom` is None). A state holds cell averages, x along axis 1 and y along axis 2, both periodic with the same
    `spacing`; the depth is above zero everywhere.

    WENO5 reconstruction of each component in each direction (weights `js` or `z`), SSP-RK3, and at the faces the local
    Lax-Friedrichs (`rusanov`) or the `hll` flux (Harten, Lax and van Leer 1983, SIAM Rev. 25, 35-61, with the bounds of
    Davis 1988 on the wave speeds). Fifth order in space where the flow varies along one axis. In two dimensions the
    flux through a face is that of the face's mean state: formally second order, with a small constant.
    `form="difference"` takes a state for point values and reconstructs split fluxes instead (Jiang and Shu 1996), which
    is fifth order in two dimensions too.

    Over an uneven bottom the surface `h + b` is reconstructed, and the pressure is split so that water at rest stays at
    rest to rounding (Rogers, Borthwick and Taylor 2003, J. Comput. Phys. 192, 422-451); second order where b varies.

    Good values: a unit square of 64 x 64 cells, `spacing=1/64, dt=1e-3` for depths up to 2; see `courant`.
    """

    spacing: float = eqx.field(static=True, default=1 / 64)
    dt: float = eqx.field(static=True, default=1e-3)
    gravity: float = eqx.field(static=True, default=9.8)
    flux: Literal["rusanov", "hll"] = eqx.field(static=True, default="rusanov")
    weights: Literal["js", "z"] = eqx.field(static=True, default="js")
    form: Literal["volume", "difference"] = eqx.field(static=True, default="volume")
    bottom: Float[Array, "nx ny"] | None = None

    def __check_init__(self) -> None:
        positive(self, "spacing", "dt", "gravity")
        one_of(self, "flux", ("rusanov", "hll"))
        one_of(self, "weights", ("js", "z"))
        one_of(self, "form", ("volume", "difference"))
        if self.form == "difference" and (self.bottom is not None or self.flux != "rusanov"):
            raise DataError("form: expected 'volume' with an uneven bottom or the hll flux, got 'difference'")

    def __call__(self, q: Float[Array, "3 nx ny"]) -> Float[Array, "3 nx ny"]:
        return ssp_runge_kutta_3(self.tendency, self.dt)(q)

    def tendency(self, q: Float[Array, "3 nx ny"]) -> Float[Array, "3 nx ny"]:
        """`dq/dt` of the cell averages."""
        along_x = self._difference(q, self.bottom)
        # Along y the same code sees the transposed plane with u and v exchanged: x and y are treated bit by bit alike.
        across = None if self.bottom is None else self.bottom.T
        along_y = exchange(self._difference(exchange(q), across))
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

    def _difference(self, q: Float[Array, "3 nx ny"], bottom: Float[Array, "nx ny"] | None) -> Float[Array, "3 nx ny"]:
        """`difference` of the whole periodic plane."""
        wrap = lambda a: jnp.concatenate([a[..., -GHOSTS:, :], a, a[..., :GHOSTS, :]], axis=-2)  # noqa: E731
        return self.difference(wrap(q), None if bottom is None else wrap(bottom))

    def difference(
        self, strip: Float[Array, "3 n_and_ghosts m"], bottom: Float[Array, "n_and_ghosts m"] | None = None
    ) -> Float[Array, "3 n m"]:
        """Flux through the right face less that through the left face, along axis 1, for all but the ghost cells.

        `m` independent lines of n cells with `GHOSTS` more at either end; the part of gravity that an uneven bottom
        adds is included. Whatever needs the equations in a few cells only calls this with lines of one.
        """
        faces = strip.shape[1] - 2 * GHOSTS + 1
        cells = [strip[:, i : i + faces] for i in range(2 * GHOSTS)]  # three cells on either side of each face
        value = weno5_js if self.weights == "js" else weno5_z
        if self.form == "difference":
            flux = self._split_flux(strip, faces, value)
            return flux[:, 1:] - flux[:, :-1]
        if bottom is None:
            flux = self._face_flux(value(*cells[:5]), value(*cells[:0:-1]), None)
            return flux[:, 1:] - flux[:, :-1]
        ground = [bottom[i : i + faces] for i in range(1, 2 * GHOSTS - 1)]
        floor = (7 * (ground[1] + ground[2]) - (ground[0] + ground[3])) / 12
        raised = [cell.at[0].add(bottom[i : i + faces]) for i, cell in enumerate(cells)]
        flux = self._face_flux(value(*raised[:5]), value(*raised[:0:-1]), floor)
        inside = slice(GHOSTS, -GHOSTS)
        push = self.gravity * (strip[0, inside] + bottom[inside]) * (floor[1:] - floor[:-1])
        return (flux[:, 1:] - flux[:, :-1]).at[1].add(push)

    def _face_flux(self, left: Array, right: Array, floor: Array | None) -> Float[Array, "3 faces m"]:
        """Through faces, from the states on their two sides (with `floor`, their first component is the surface)."""
        flux_left, u_left, celerity_left = self._flux(left, floor)
        flux_right, u_right, celerity_right = self._flux(right, floor)
        if self.flux == "rusanov":
            speed = jnp.maximum(jnp.abs(u_left) + celerity_left, jnp.abs(u_right) + celerity_right)
            return 0.5 * (flux_left + flux_right - speed * (right - left))
        slowest = jnp.minimum(jnp.minimum(u_left - celerity_left, u_right - celerity_right), 0)
        fastest = jnp.maximum(jnp.maximum(u_left + celerity_left, u_right + celerity_right), 0)
        mixed = fastest * flux_left - slowest * flux_right + fastest * slowest * (right - left)
        return mixed / (fastest - slowest)

    def _flux(self, q: Float[Array, "3 faces m"], floor: Array | None) -> tuple[Array, Array, Array]:
        """`F(q)`, the velocity u and the celerity `sqrt(g h)`."""
        surface, hu, hv = q
        h = surface if floor is None else surface - floor
        u = hu / h
        pressure = h * h if floor is None else surface * (surface - 2 * floor)
        return jnp.stack([hu, hu * u + 0.5 * self.gravity * pressure, hv * u]), u, jnp.sqrt(self.gravity * h)

    def _split_flux(self, strip: Array, faces: int, value: Reconstruction) -> Float[Array, "3 faces m"]:
        """`(F + s q) / 2` from the left plus `(F - s q) / 2` from the right, s the fastest wave of all."""
        flux, u, celerity = self._flux(strip, None)
        speed = jnp.max(jnp.abs(u) + celerity)
        forth, back = 0.5 * (flux + speed * strip), 0.5 * (flux - speed * strip)
        slices = lambda a: [a[:, i : i + faces] for i in range(2 * GHOSTS)]  # noqa: E731
        return value(*slices(forth)[:5]) + value(*slices(back)[:0:-1])


def squared_distance(centre: Float[Array, "2"], cells: int) -> Float[Array, "cells cells"]:
    """Of every cell centre of [-1/2, 1/2]^2 from `centre`, the shortest way round, squared."""
    place = (jnp.arange(cells) + 0.5) / cells - 0.5
    x, y = ((place - c + 0.5) % 1.0 - 0.5 for c in centre)
    return x[:, None] ** 2 + y[None, :] ** 2


def exchange(q: Float[Array, "3 n m"]) -> Float[Array, "3 m n"]:
    """The plane mirrored at its diagonal: x and y, u and v exchanged."""
    return jnp.stack([q[0].T, q[2].T, q[1].T])


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
    depth = 1.0 + amplitude * jnp.exp(-squared_distance(jnp.asarray(centre), cells) / (2 * width**2))
    return jnp.stack([depth, jnp.zeros_like(depth), jnp.zeros_like(depth)])
