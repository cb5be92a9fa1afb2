"""Phase retrieval of known objects, windings of known lines, and what the reader of measured data refuses."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import DataError
from jaxsci.diffraction.measured import MeasuredConfig, check_intensity, load_intensity
from jaxsci.diffraction.retrieval import RetrievalConfig, chi_square, refine, retrieve, to_momentum, to_object
from jaxsci.diffraction.winding import longest_line, thickness, windings

SCAN = "diffraction/aps34idc_scan54/scan54_raw_counts.npz"


def box_object(shape=(24, 25, 26), winding: float = 0.0):
    """A lopsided box with a smooth phase, and a line along the first axis about which the phase winds."""
    x, y, z = np.meshgrid(*[np.arange(s) - s // 2 for s in shape], indexing="ij")
    inside = (abs(x) < 6) & (abs(y + 0.3 * x) < 5) & (abs(z) < 5) & (y + z < 6)
    phase = 0.15 * x + 0.02 * y * z + winding * np.arctan2(z + 0.5, y + 0.5)
    return jnp.asarray(np.where(inside, np.exp(1j * phase), 0), jnp.complex64), jnp.asarray(inside)


def likeness(one, other) -> float:
    """The largest correlation of two objects over shifts and twins: what intensities leave open. 1 for the same."""
    transforms = [np.fft.fftn(np.asarray(part)) for part in (one, other)]
    found = []
    for twin in (transforms[0], np.conj(transforms[0])):
        correlation = np.fft.ifftn(twin * np.conj(transforms[1]))
        found.append(np.abs(correlation).max())
    return max(found) / float(jnp.linalg.norm(one) * jnp.linalg.norm(other))


def test_transforms_are_inverse_and_unitary():
    field, _ = box_object()
    there = to_momentum(field)
    np.testing.assert_allclose(to_object(there), field, atol=1e-6)
    assert float(jnp.sum(jnp.abs(there) ** 2)) == pytest.approx(float(jnp.sum(jnp.abs(field) ** 2)), rel=1e-5)


def test_noise_free_object_is_found():
    field, _ = box_object()
    intensity = 100 * jnp.square(jnp.abs(to_momentum(field)))
    solve = jax.jit(lambda key: retrieve(intensity, RetrievalConfig(cycles=2, hio=60), key=key))
    found = min((solve(jax.random.key(seed)) for seed in range(3)), key=lambda r: float(r.chi_square))
    assert float(found.chi_square) < 0.02  # a twin, a shift or the box's soft edge may remain, a wrong object does not
    assert float(chi_square(found.object, intensity)) == pytest.approx(float(found.chi_square), rel=1e-3)
    assert likeness(found.object, field) > 0.97
    assert float(refine(found, intensity, steps=20).chi_square) <= 1.1 * float(found.chi_square)


@pytest.mark.parametrize("turns", [0, 1, -1])
def test_winding_of_a_line(turns):
    field, inside = box_object(winding=turns)
    found = windings(field, inside)
    assert set(np.unique(found.numbers[0])) <= {0, turns}
    assert not np.any(found.numbers[1:])  # the line is along the first axis
    if turns:
        assert longest_line(found) >= thickness(inside) - 3  # less the eroded ends
    else:
        assert longest_line(found) == 0


def test_bad_intensities_are_named(tmp_path):
    good = np.random.default_rng(0).poisson(3.0, (9, 8, 10)).astype(float)
    good[4, 4, 4] = 1000
    bad = {
        "expected 3 dimensions": good[0],
        "NaN": np.where(good > 900, np.nan, good),
        "negative": good - 1,
        "saturated": np.minimum(good * 40, 160),
        "every voxel is zero": good * 0,
        "complex numbers": good + 1j,
    }
    for message, values in bad.items():
        with pytest.raises(DataError, match=message):
            check_intensity(values, "x.npy")
    np.savez(tmp_path / "two.npz", a=good, b=good)
    with pytest.raises(DataError, match="data.variable"):
        load_intensity(MeasuredConfig(path=str(tmp_path / "two.npz")))
    with pytest.raises(DataError, match="no such file"):
        load_intensity(MeasuredConfig(path="missing.npz"))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match="not a readable"):
        load_intensity(MeasuredConfig(path=str(tmp_path / "text.npz")))


@pytest.mark.parametrize("kind", ["intensity", "amplitude", "counts"])
def test_any_array_is_read_about_its_peak(tmp_path, kind):
    values = np.random.default_rng(0).poisson(0.5, (21, 30, 19)).astype(float)
    values[15, 8, 7] = 5e4  # off the centre, odd and even lengths
    path = tmp_path / "scan.npy"
    np.save(path, {"intensity": values, "amplitude": np.sqrt(values), "counts": values.astype(np.int32)}[kind])
    quantity = "amplitude" if kind == "amplitude" else "intensity"
    found = load_intensity(MeasuredConfig(path=str(path), quantity=quantity, size=16))
    assert found.shape == (16, 16, 16)
    assert np.unravel_index(found.argmax(), found.shape) == (8, 8, 8)
    assert found[8, 8, 8] == pytest.approx(5e4) and found[found > 0].min() >= 2


def test_packaged_scan():
    found = load_intensity(MeasuredConfig())
    assert found.shape == (64, 64, 64)
    assert np.unravel_index(found.argmax(), found.shape) == (32, 32, 32)
    # That of the crop it was binned from, less voxels below 2 counts.
    assert found.sum() == pytest.approx(3.977e7, rel=3e-3)


def test_raw_scan_agrees_with_its_log():
    """The spec file's ImageTot and ImageMax are the sums and maxima of the frames, exactly."""
    folder = os.environ.get("JAXSCI_DATA")
    if folder is None or not (Path(folder) / SCAN).is_file():
        pytest.skip(f"set JAXSCI_DATA to the folder that holds {SCAN}")
    with np.load(Path(folder) / SCAN, allow_pickle=False) as archive:
        counts = archive["counts"]
    lines = (Path(folder) / SCAN).with_name("scan54.spec").read_text().splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("#L "))
    names = lines[header][3:].split("  ")
    rows = np.array([line.split() for line in lines[header + 1 :] if line and line[0] not in "#"], float)
    np.testing.assert_array_equal(rows[:, names.index("ImageTot")], counts.sum(axis=(1, 2)))
    np.testing.assert_array_equal(rows[:, names.index("ImageMax")], counts.max(axis=(1, 2)))
