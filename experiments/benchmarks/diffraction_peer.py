"""The generator's forward model once more in NumPy and SciPy, written as one would without JAX: the peer it is timed
against. Same scenes, same grid, same formulas, float32; the far field by the same matrix products or by SciPy's FFT."""

import numpy as np
import scipy.fft
from jaxtyping import Complex, Float

from jaxsci.diffraction.generator import Prior, Scene
from jaxsci.diffraction.scattering import fine_axis


def expected(scene: Scene, prior: Prior, *, fft: bool) -> Float[np.ndarray, "n n n"]:
    """Mean counts of a scene whose leaves are NumPy arrays. `fft`: pad and transform instead of three products."""
    field = object_of(scene, prior)
    amplitude = padded_far_field(field, prior) if fft else far_field(field, prior)
    intensity = np.square(np.real(amplitude)) + np.square(np.imag(amplitude))
    return scene.photons * intensity / intensity.sum() + scene.background


def object_of(scene: Scene, prior: Prior) -> Complex[np.ndarray, "k k k"]:
    axis = fine_axis(prior.span, prior.oversampling).astype(np.float32)
    density = np.ones((len(axis),) * 3, np.float32)
    for normal, distance in zip(scene.body.normals, scene.body.distances, strict=True):
        depth = (distance - _projection(normal, np.broadcast_to(axis, (3, len(axis))))) / np.float32(prior.softness)
        density /= 1 + np.exp(-np.maximum(depth, -80))
    phase = _dislocation_phase(scene, prior, axis) + _strain_phase(scene, axis)
    return density * (np.cos(phase) + 1j * np.sin(phase))


def far_field(field: Complex[np.ndarray, "k k k"], prior: Prior) -> Complex[np.ndarray, "n n n"]:
    momenta = 2 * np.pi * (np.arange(prior.n) - prior.n // 2) / prior.n
    wave = np.exp(1j * np.outer(momenta, fine_axis(prior.span, prior.oversampling))).astype(np.complex64)
    for _ in range(3):  # each product turns the last axis into momenta; then the axes move on
        field = np.moveaxis(field @ wave.T, -1, 0)
    return field / np.float32(prior.oversampling**3)


def padded_far_field(field: Complex[np.ndarray, "k k k"], prior: Prior) -> Complex[np.ndarray, "n n n"]:
    size, points, n = prior.n * prior.oversampling, len(field), prior.n
    before = size // 2 - points // 2
    padded = np.pad(field, [(before, size - points - before)] * 3)
    spectrum = scipy.fft.fftshift(scipy.fft.ifftn(scipy.fft.ifftshift(padded), norm="forward", workers=-1))
    kept = slice(size // 2 - n // 2, size // 2 - n // 2 + n)
    return spectrum[kept, kept, kept] / np.float32(prior.oversampling**3)


def _dislocation_phase(scene: Scene, prior: Prior, axis: np.ndarray) -> np.ndarray:
    line, g, nu = scene.line, scene.reflection, np.float32(prior.matter.poisson)
    across = np.cross(line.normal, line.direction)
    x, y = (_projection(np.asarray(v), axis - line.core[:, None]) for v in (across, line.normal))
    edge, screw = line.burgers @ across, line.burgers @ line.direction
    theta = np.arctan2(y, x)
    squared = x * x + y * y + np.float32(prior.core_radius**2)
    ratio = 1 / (4 * (1 - nu) * squared)
    along_x = edge * (theta + 2 * x * y * ratio)
    along_y = -edge * ((1 - 2 * nu) / (4 * (1 - nu)) * np.log(squared) + (x * x - y * y) * ratio)
    return np.asarray((g @ across) * along_x + (g @ line.normal) * along_y + (g @ line.direction) * screw * theta)


def _strain_phase(scene: Scene, axis: np.ndarray) -> np.ndarray:
    waves = np.exp(1j * scene.wave_vectors[:, :, None] * axis)
    left = (scene.wave_amplitudes[:, None] * waves[:, 0])[:, :, None] * waves[:, 1][:, None, :]
    return np.real(np.tensordot(left, waves[:, 2], axes=(0, 0)))


def _projection(vector: np.ndarray, axes: np.ndarray) -> np.ndarray:
    x, y, z = vector[:, None] * axes
    return x[:, None, None] + y[:, None] + z
