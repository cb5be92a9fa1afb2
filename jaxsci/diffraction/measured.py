"""Reading measured diffraction intensities: any three-dimensional array of numbers, checked before it is believed."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal
from zipfile import is_zipfile

import numpy as np
from jaxtyping import Float

from jaxsci.core.config import positive, require
from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.reading import existing, read_npz, reason

PACKAGED = "aps34idc_scan54_binned64.npz"
SATURATED_VOXELS = 8  # at exactly the same largest value; a peak that counts has one
COUNTING_PEAK = 1e4


@dataclass(frozen=True)
class MeasuredConfig:
    """Where an intensity is and how to read it.

    - `path`: an .npz or .npy file; `None` is the packaged scan. `variable` names the array where there are several.
    - `quantity`: what the numbers are, `intensity` or `amplitude` (its square root).
    - `size`: at most so many voxels an axis are kept, about the peak.
    - `bin`: voxels to sum along each axis. The crystal must stay oversampled at least twofold.
    - `threshold`: values below are background. `None`: 2 for photon counts, else 1.6e-5 of the maximum.
    """

    path: str | None = None
    variable: str | None = None
    quantity: Literal["intensity", "amplitude"] = "intensity"
    size: int = 128
    bin: tuple[int, int, int] = (1, 1, 1)
    threshold: float | None = None

    def __post_init__(self) -> None:
        positive(self, "size")
        require(min(self.bin) >= 1, "bin", "whole numbers of 1 or more", list(self.bin))
        require(self.threshold is None or self.threshold >= 0, "threshold", "0 or more", self.threshold)


def load_intensity(config: MeasuredConfig) -> Float[np.ndarray, "frames rows columns"]:
    """The intensity, its peak in the middle, background set to zero. Raises `DataError` naming what is wrong."""
    if config.path is None:
        with resources.as_file(resources.files("jaxsci.diffraction") / "data" / PACKAGED) as file:
            values = _read(file, config.variable)
    else:
        file = existing(config.path, "an intensity", "data.path")
        values = _read(file, config.variable)
    values = check_intensity(values, str(file))
    if config.quantity == "amplitude":
        values = np.square(values)
    values = _binned(_about_peak(values, config.size), config.bin)
    if min(values.shape) < 8:
        raise DataError(f"{file}: {values.shape} voxels are left; expected 8 or more along each axis (data.bin, size)")
    return np.where(values < _threshold(values, config.threshold), 0.0, values)


def check_intensity(values: np.ndarray, name: str) -> Float[np.ndarray, "frames rows columns"]:
    """The array as float64. Raises `DataError` for what no detector counts: other dimensions, NaN, negative values."""
    if values.dtype.kind not in "iuf":
        what = "complex numbers; give their squared modulus" if values.dtype.kind == "c" else f"{values.dtype}"
        raise DataError(f"{name}: expected numbers that count photons, got {what}")
    if values.ndim != 3:
        raise DataError(f"{name}: expected 3 dimensions (frames, rows, columns), got shape {values.shape}")
    values = values.astype(np.float64)
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise DataError(f"{name}: {bad} of {values.size} voxels are NaN or infinite; set them to 0 if they are dead")
    negative = int(np.sum(values < 0))
    if negative:
        raise DataError(f"{name}: {negative} voxels are negative, the least {values.min():g}; clip what you subtracted")
    if not values.any():
        raise DataError(f"{name}: every voxel is zero; there is no diffraction in it")
    top = int(np.sum(values == values.max()))
    if top >= SATURATED_VOXELS and values.max() > 100:
        raise DataError(
            f"{name}: {top} voxels share the largest value {values.max():g}: the detector was saturated; "
            "attenuate the beam, or set those voxels to 0"
        )
    return values


def _read(file: Path, variable: str | None) -> np.ndarray:
    try:
        alone = None if is_zipfile(file) else np.load(file, allow_pickle=False)
    except Exception as error:  # numpy, zipfile, ValueError and OSError all mean the same to the user
        raise DataError(f"{file}: not a readable npz or npy file ({reason(error)})") from None
    if alone is not None:
        return alone
    arrays = read_npz(file)
    if variable is not None:
        if variable not in arrays:
            raise DataError(f"{file}: no array '{variable}'{did_you_mean(variable, arrays)}")
        return arrays[variable]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    volumes = {name: value for name, value in arrays.items() if value.ndim == 3}
    if len(volumes) == 1:
        return next(iter(volumes.values()))
    for name in ("intensity", "counts"):
        if name in volumes:
            return volumes[name]
    came = ", ".join(f"{name} {value.shape}" for name, value in arrays.items()) or "nothing"
    raise DataError(f"{file}: expected one array of 3 dimensions, found {came}; name it with data.variable=<name>")


def _about_peak(values: np.ndarray, size: int) -> np.ndarray:
    """Cut and padded so that the brightest voxel is at shape // 2; what was measured stays as far as `size` allows."""
    peak = np.unravel_index(int(values.argmax()), values.shape)
    for axis, at in enumerate(peak):
        length = min(size, values.shape[axis])
        length -= length % 2  # even: binning and FFTs like it
        low = int(at) - length // 2
        before, after = max(-low, 0), max(low + length - values.shape[axis], 0)
        widths = [(before, after) if i == axis else (0, 0) for i in range(3)]
        values = np.pad(values, widths)
        values = np.take(values, np.arange(low + before, low + before + length), axis=axis)
    return values


def _binned(values: np.ndarray, bins: tuple[int, int, int]) -> np.ndarray:
    for axis, width in enumerate(bins):
        kept = values.shape[axis] // width * width
        values = np.take(values, np.arange(kept), axis=axis)
        shape = (*values.shape[:axis], kept // width, width, *values.shape[axis + 1 :])
        values = values.reshape(shape).sum(axis=axis + 1)
    return values


def _threshold(values: np.ndarray, threshold: float | None) -> float:
    if threshold is not None:
        return threshold
    return 2.0 if values.max() >= COUNTING_PEAK else 1.6e-5 * float(values.max())
