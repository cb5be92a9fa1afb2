"""Labelled diffraction patterns on demand: a key becomes a crystal, its defect, and what the detector counts.

A sample is (key, class, prior, `VERSION`): a replay buffer holds keys, not images. Frame of the detector: z along the
reflection, which the goniometer knows; the crystal's rotation about it is not known.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, Key

from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import ConfigError, did_you_mean
from jaxsci.diffraction import detector, scattering
from jaxsci.diffraction.crystal import Body, grid_points, rotated, support_on_grid, wulff
from jaxsci.diffraction.dislocation import Line, in_plane
from jaxsci.diffraction.lattice import MATERIALS, Material, check_reflection, edges, screws
from jaxsci.diffraction.trigonometry import unit_phasor

VERSION = 1  # of what a key means; raise it with any change below
CLASSES = ("none", "edge", "screw", "mixed")
NONE, EDGE, SCREW, MIXED = range(4)
FACETS = 14


@dataclass(frozen=True)
class Prior:
    """What crystals, defects and measurements are drawn from. Lengths in voxels of the resolution.

    - `n`: momenta per axis; `oversampling`: points of the object per voxel (2 for soft faces, 4 for hard ones);
      `span`: edge of the cube that holds every crystal.
    - `radius`: of the {111} facets; `ratio`: the {100} facets' factor; `jitter`: each facet's own.
    - `core`: the line passes within this share of the radius from the centre, along each axis.
    - `strain`: largest rms (radians) of a smooth random phase; `waves` of spatial frequency `roughness` / radius.
    - `photons`: range of the total, drawn log-uniformly whatever the class; `background` per voxel.
    - `orientation`: `reflection` (z along g, any rotation about it, mis-set by up to `misset` degrees) or `free`.
    """

    n: int = 32
    oversampling: int = 2
    span: float = 20.0
    reflection: tuple[int, int, int] = (1, 1, 1)
    material: str = "Au"
    radius: tuple[float, float] = (4.5, 6.5)
    ratio: tuple[float, float] = (1.05, 1.35)
    jitter: float = 0.25
    softness: float = 0.35
    core: float = 0.45
    core_radius: float = 0.5
    strain: float = 0.6
    waves: int = 6
    roughness: float = 1.0
    photons: tuple[float, float] = (1e6, 1e6)
    background: float = 0.02
    orientation: Literal["reflection", "free"] = "reflection"
    misset: float = 2.0

    def __post_init__(self) -> None:
        between(self, "n", 8, 256)
        between(self, "oversampling", 1, 8)
        positive(self, "softness", "span", "waves", "roughness")
        require(self.span <= self.n, "span", f"at most n = {self.n} voxels", self.span)
        for name in ("radius", "ratio", "photons"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, "a range [low,high] of values above 0", [low, high])
        between(self, "jitter", 0.0, 0.9)
        between(self, "core", 0.0, 1.0)
        for name in ("strain", "background", "misset", "core_radius"):
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))
        if self.material not in MATERIALS:
            raise ConfigError(f"material: no '{self.material}'{did_you_mean(self.material, MATERIALS)}")
        check_reflection(self.reflection, self.matter.centring)

    @property
    def matter(self) -> Material:
        """The material by its name."""
        return MATERIALS[self.material]


class Scene(NamedTuple):
    """One crystal in the beam; every array is differentiable through `object_of` and `expected`."""

    body: Body
    line: Line
    """In the frame of the detector; `burgers` is zero for a perfect crystal."""
    reflection: Float[Array, "3"]
    """g in the same frame, so that g.u (u in units of a) is in turns."""
    wave_vectors: Float[Array, "waves 3"]
    wave_amplitudes: Complex[Array, " waves"]
    """Of the smooth strain: phase = Re sum a exp(i k.r)."""
    photons: Float[Array, ""]
    background: Float[Array, ""]


class Label(NamedTuple):
    """What is true of a scene."""

    kind: Int[Array, ""]
    """Index into CLASSES."""
    visibility: Float[Array, ""]
    """|g.b|; zero for a perfect crystal."""
    system: Int[Array, ""]
    """Row of the lattice's screws (kind screw) or edges (kinds edge and mixed)."""


def is_visible(label: Label) -> Array:
    """Perfect crystals, and dislocations that the reflection can see."""
    return (label.kind == NONE) | (label.visibility > 0.5)


def draw(prior: Prior, kind: Int[Array, ""], *, key: Key[Array, ""]) -> tuple[Scene, Label]:
    """A scene of class `kind`. The same key gives the same crystal, strain and flux whatever the class."""
    keys = jax.random.split(key, 10)
    uniform = jax.random.uniform
    g = jnp.asarray(prior.reflection, jnp.float32)
    rotation = _orientation(prior, key=keys[0])
    radius = uniform(keys[1], minval=prior.radius[0], maxval=prior.radius[1])
    ratio = uniform(keys[2], minval=prior.ratio[0], maxval=prior.ratio[1])
    body = rotated(wulff(radius=radius, ratio=ratio, jitter=prior.jitter, key=keys[3]), rotation)

    burgers, direction, normal, system = _defect(prior, kind, key=keys[4])
    core = radius * uniform(keys[5], (3,), minval=-prior.core, maxval=prior.core)
    visibility = jnp.abs(burgers @ g).round(3)
    line = Line(rotation @ burgers, rotation @ direction, rotation @ normal, core)

    vectors = prior.roughness / radius * jax.random.normal(keys[6], (prior.waves, 3))
    strength = prior.strain * uniform(keys[7])
    turn = uniform(keys[8], (prior.waves,), maxval=2 * jnp.pi)
    # Independent waves of one amplitude A have variance waves A^2 / 2.
    amplitudes = strength * jnp.sqrt(2 / prior.waves) * jnp.exp(1j * turn)
    low, high = (float(np.log(p)) for p in prior.photons)
    photons = jnp.exp(uniform(keys[9], minval=low, maxval=high))
    scene = Scene(body, line, rotation @ g, vectors, amplitudes, photons, jnp.float32(prior.background))
    return scene, Label(jnp.asarray(kind, jnp.int32), jnp.where(kind == NONE, 0.0, visibility), system)


def object_of(scene: Scene, prior: Prior) -> Complex[Array, "k k k"]:
    """S(r) exp(2 pi i g.u + i strain) on the fine grid."""
    axis = scattering.fine_axis(prior.span, prior.oversampling)
    grid = grid_points(axis)
    density = support_on_grid(scene.body, grid, softness=prior.softness)
    phase = dislocation_phase(scene, prior, grid) + _strain_phase(scene, axis)
    return (density * unit_phasor(phase)).reshape((len(axis),) * 3)


def dislocation_phase(scene: Scene, prior: Prior, grid: Float[np.ndarray, "4 points"]) -> Float[Array, " points"]:
    """2 pi g.u of the scene's line (radians)."""
    line, g = scene.line, scene.reflection
    across = jnp.cross(line.normal, line.direction)
    frame = jnp.stack([across, line.normal])
    x, y = jnp.concatenate([frame, -(frame @ line.core)[:, None]], axis=1) @ grid
    parts = in_plane(
        x,
        y,
        line.burgers @ across,
        line.burgers @ line.direction,
        poisson=prior.matter.poisson,
        core_radius=prior.core_radius,
    )
    directions = (across, line.normal, line.direction)
    along = [(g @ v) * u for v, u in zip(directions, parts, strict=True)]
    return 2 * jnp.pi * (along[0] + along[1] + along[2])


def expected(scene: Scene, prior: Prior) -> Float[Array, "n n n"]:
    """Mean counts: the whole chain from a dislocation to the detector, differentiable in every leaf of the scene."""
    field = scattering.far_field(object_of(scene, prior), prior.n, prior.oversampling)
    return detector.expected_counts(scattering.intensity(field), photons=scene.photons, background=scene.background)


def sample(prior: Prior, kind: Int[Array, ""], *, key: Key[Array, ""]) -> tuple[Float[Array, "n n n"], Label]:
    """Counts and their label."""
    scene_key, noise_key = jax.random.split(key)
    scene, label = draw(prior, kind, key=scene_key)
    return detector.count(expected(scene, prior), key=noise_key), label


def aligned(reflection: tuple[int, int, int]) -> Float[np.ndarray, "3 3"]:
    """A rotation that takes the reflection to z."""
    z = np.asarray(reflection, float) / np.linalg.norm(reflection)
    helper = np.eye(3)[np.argmin(np.abs(z))]
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _orientation(prior: Prior, *, key: Key[Array, ""]) -> Float[Array, "3 3"]:
    if prior.orientation == "free":
        return _rotation(jax.random.normal(key, (4,)))
    about, tilt = jax.random.split(key)
    turn = jax.random.uniform(about, maxval=2 * jnp.pi)
    zero = jnp.zeros(())
    spin = _rotation(jnp.stack([jnp.cos(turn / 2), zero, zero, jnp.sin(turn / 2)]))
    lean = jnp.deg2rad(prior.misset) * jax.random.uniform(tilt, (3,), minval=-1.0)
    return (
        _rotation(jnp.concatenate([jnp.ones(1), lean / 2])) @ spin @ jnp.asarray(aligned(prior.reflection), jnp.float32)
    )


def _rotation(quaternion: Float[Array, "4"]) -> Float[Array, "3 3"]:
    w, x, y, z = quaternion / jnp.linalg.norm(quaternion)
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _defect(prior: Prior, kind: Int[Array, ""], *, key: Key[Array, ""]) -> tuple[Array, Array, Array, Array]:
    """Burgers vector, line, glide normal (crystal axes) and system; mixed lines are 30 to 60 degrees off b."""
    systems = [edges(prior.matter.centring), screws(prior.matter.centring)]
    choose, bend = jax.random.split(key)
    share = jax.random.uniform(choose)
    picked = []
    for family in systems:
        row = jnp.minimum((share * len(family.burgers)).astype(int), len(family.burgers) - 1)
        picked.append((row, *(jnp.asarray(column, jnp.float32)[row] for column in family)))
    edge, screw = picked
    angle = jnp.deg2rad(jax.random.uniform(bend, minval=30.0, maxval=60.0))
    unit = edge[1] / jnp.linalg.norm(edge[1])
    mixed_direction = jnp.cos(angle) * unit + jnp.sin(angle) * jnp.cross(edge[3], unit)
    mixed = (edge[0], edge[1], mixed_direction, edge[3])
    none = (edge[0], jnp.zeros(3), edge[2], edge[3])
    options = [none, edge, screw, mixed]
    stacked = [jnp.stack(column) for column in zip(*options, strict=True)]
    system, burgers, direction, normal = (column[kind] for column in stacked)
    return burgers, direction, normal, system


def _strain_phase(scene: Scene, axis: Float[np.ndarray, " k"]) -> Float[Array, " points"]:
    """A wave is a product of three functions of one coordinate each: no voxel needs a cosine."""
    along_x, along_y, along_z = jnp.moveaxis(jnp.exp(1j * scene.wave_vectors[..., None] * jnp.float32(axis)), 1, 0)
    left = scene.wave_amplitudes[:, None] * along_x
    right = (along_y[:, :, None] * along_z[:, None, :]).reshape(len(left), -1)
    left, right = jnp.concatenate([left.real, -left.imag]), jnp.concatenate([right.real, right.imag])
    return (left.T @ right).ravel()
