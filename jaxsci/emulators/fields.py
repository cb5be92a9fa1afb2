"""Daily fields on a latitude-longitude grid: reading, checking, splitting by time."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.reading import existing, read_npz, reason

PACKAGED = "ncep_r1_z500_europe_2p5deg_daily_2000_2002.npz"
COORDINATES = ("lat", "lon", "time")
ALIASES = {"latitude": "lat", "longitude": "lon", "valid_time": "time"}


@dataclass(frozen=True)
class Field:
    """A scalar field sampled once a day.

    `values` (days, latitudes, longitudes) in the units of the file; `lat`, `lon` in degrees;
    `time` (days,) as `datetime64[h]`, strictly increasing by one day; `name` as in the file.
    """

    name: str
    values: Float[np.ndarray, "days lat lon"]
    lat: Float[np.ndarray, " lat"]
    lon: Float[np.ndarray, " lon"]
    time: np.ndarray

    @property
    def flat(self) -> Float[np.ndarray, "days points"]:
        """Values with the grid flattened, longitude fastest."""
        return self.values.reshape(len(self.values), -1)

    @property
    def area_weights(self) -> Float[np.ndarray, " points"]:
        """Weights `cos(latitude)` of the flattened grid, of mean one."""
        weights = np.repeat(np.cos(np.deg2rad(self.lat)), len(self.lon))
        return weights / weights.mean()


@dataclass(frozen=True)
class Split:
    """Consecutive spans of days; everything that is fitted is fitted on `train`, chosen on `validation`."""

    train: slice
    validation: slice
    test: slice


def load_field(path: str | None = None, variable: str | None = None) -> Field:
    """Read a field from an `.npz` file or, through xarray, from a netCDF file; `None` reads the packaged one.

    An npz file holds `lat`, `lon`, `time` and one array (time, lat, lon); `variable` names it where there are several.
    Raises `DataError` naming what is wrong.
    """
    if path is None:
        with resources.as_file(resources.files("jaxsci.emulators") / "data" / PACKAGED) as packaged:
            return _checked(packaged, *_read_npz(packaged, variable))
    file = existing(path, "a field", "data.path")
    reader = _read_npz if file.suffix == ".npz" else _read_netcdf
    return _checked(file, *reader(file, variable))


def split_by_time(days: int, *, validation_days: int = 366, test_days: int = 366) -> Split:
    """The last days are the test, those before them the validation, the rest the training.

    Test and validation take at most a third and a sixth of a short record.
    """
    test = min(test_days, days // 3)
    validation = min(validation_days, days // 6)
    train = days - test - validation
    return Split(slice(0, train), slice(train, train + validation), slice(train + validation, days))


def _read_npz(file: Path, variable: str | None) -> tuple[str, dict[str, np.ndarray]]:
    return _select(file, read_npz(file), variable)


def _read_netcdf(file: Path, variable: str | None) -> tuple[str, dict[str, np.ndarray]]:
    try:
        import xarray
    except ImportError:
        raise DataError(f"{file}: netCDF needs xarray; install it with: pip install 'jaxsci[data]'") from None
    try:
        with xarray.open_dataset(file) as dataset:
            arrays = {str(name): np.asarray(dataset[name].values) for name in dataset.variables}
            dims = {str(name): dataset[name].dims for name in dataset.variables}
    except Exception as error:
        raise DataError(f"{file}: not a readable netCDF file ({reason(error)})") from None
    name, selected = _select(file, arrays, variable)
    order = [ALIASES.get(str(d), str(d)) for d in dims[name]]
    if sorted(order) != sorted(COORDINATES):
        raise DataError(f"{file}: '{name}' has dimensions {', '.join(order)}; expected time, lat, lon")
    selected[name] = selected[name].transpose([order.index(d) for d in ("time", "lat", "lon")])
    return name, selected


def _select(file: Path, arrays: dict[str, np.ndarray], variable: str | None) -> tuple[str, dict[str, np.ndarray]]:
    arrays = {ALIASES.get(name, name): value for name, value in arrays.items()}
    missing = [name for name in COORDINATES if name not in arrays]
    if missing:
        raise DataError(f"{file}: missing {', '.join(missing)}; found {', '.join(sorted(arrays))}")
    fields = [name for name, value in arrays.items() if name not in COORDINATES and value.ndim == 3]
    if variable is not None:
        if variable not in fields:
            raise DataError(f"{file}: no field '{variable}' (time, lat, lon){did_you_mean(variable, fields)}")
        return variable, arrays
    if len(fields) != 1:
        came = ", ".join(fields) if fields else "none"
        raise DataError(f"{file}: expected one field (time, lat, lon), found {came}; name it with data.variable=<name>")
    return fields[0], arrays


def _checked(file: Path, name: str, arrays: dict[str, np.ndarray]) -> Field:
    values, lat, lon = (arrays[key] for key in (name, "lat", "lon"))
    for key in COORDINATES:
        if arrays[key].ndim != 1:
            raise DataError(f"{file}: '{key}' has shape {arrays[key].shape}, expected one dimension")
    for key in (name, "lat", "lon"):
        if arrays[key].dtype.kind not in "iuf":
            raise DataError(f"{file}: '{key}' holds {arrays[key].dtype}, expected numbers")
    try:
        if arrays["time"].dtype.kind in "iufcb":
            raise ValueError("numbers would be read as hours since 1970")
        time = arrays["time"].astype("datetime64[h]")
    except (ValueError, TypeError):
        raise DataError(f"{file}: 'time' must hold dates such as 2000-01-01 or 2000-01-01T12") from None
    expected = (len(time), len(lat), len(lon))
    if values.shape != expected:
        raise DataError(f"{file}: '{name}' has shape {values.shape}, expected (time, lat, lon) = {expected}")
    if values.size == 0:
        raise DataError(f"{file}: '{name}' has no days or no points, its shape is {values.shape}")
    for key in ("lat", "lon"):
        if not np.isfinite(arrays[key]).all():
            raise DataError(f"{file}: '{key}' is not finite everywhere")
    bad = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    if len(bad):
        raise DataError(
            f"{file}: '{name}' is not finite on {len(bad)} of {len(time)} days, the first {time[bad[0]]}; "
            "fill or cut those days"
        )
    gaps = np.flatnonzero(np.diff(time) != np.timedelta64(24, "h"))
    if len(gaps):
        raise DataError(f"{file}: 'time' must advance by one day; it does not after {time[gaps[0]]}")
    return Field(name, values.astype(np.float64), lat.astype(np.float64), lon.astype(np.float64), time)
