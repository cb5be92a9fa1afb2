"""Reading fields: what is right is read alike from every format, what is wrong is refused in one line."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.core.errors import DataError
from jaxsci.emulators.fields import Field, load_field, split_by_time


def content(days=6):
    rng = np.random.default_rng(0)
    return {
        "z": rng.normal(5500, 100, size=(days, 3, 4)).astype(np.float32),
        "lat": np.array([50.0, 45.0, 40.0]),
        "lon": np.array([0.0, 5.0, 10.0, 15.0]),
        "time": np.array([f"2000-01-{day + 1:02d}T12" for day in range(days)]),
    }


def save(path: Path, arrays) -> str:
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture
def refused(tmp_path):
    """Saves `content()` with changes (`None` removes an array) and returns the one line that refuses it."""

    def check(changes, variable=None) -> str:
        arrays = {name: value for name, value in (content() | changes).items() if value is not None}
        path = save(tmp_path / "f.npz", arrays)
        with pytest.raises(DataError) as caught:
            load_field(path, variable)
        said = str(caught.value)
        assert "\n" not in said and said.startswith(path)
        return said

    return check


def assert_same(a: Field, b: Field):
    assert a.name == b.name
    for part in ("values", "lat", "lon", "time"):
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


def test_npz_is_read_as_float64_with_hourly_times(tmp_path):
    arrays = content()
    field = load_field(save(tmp_path / "f.npz", arrays))
    assert field.name == "z" and field.values.dtype == np.float64 and field.lat.dtype == np.float64
    np.testing.assert_array_equal(field.values, arrays["z"])
    assert field.time[1] == np.datetime64("2000-01-02T12")
    np.testing.assert_array_equal(field.flat[2], arrays["z"][2].ravel())


def test_area_weights_are_cosines_of_mean_one(tmp_path):
    field = load_field(save(tmp_path / "f.npz", content()))
    weights = field.area_weights.reshape(3, 4)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-15)
    np.testing.assert_allclose(weights[0] / weights[2], np.cos(np.deg2rad(50)) / np.cos(np.deg2rad(40)))


def test_the_packaged_field():
    field = load_field()
    assert field.name == "z500_m" and field.values.shape == (1096, 13, 17)
    assert field.time[0] == np.datetime64("2000-01-01") and field.time[-1] == np.datetime64("2002-12-31")
    assert field.lat[0] == 60 and field.lon[-1] == 30
    assert field.values.min() > 4500 and field.values.max() < 6100  # heights of 500 hPa in metres


def test_missing_file_and_directory(tmp_path):
    for path, said in ((tmp_path / "nowhere.npz", "no such file"), (tmp_path, "no file, but something else")):
        with pytest.raises(DataError, match=f"data.path: {said}: {re.escape(str(path))}"):
            load_field(str(path))


def test_corrupt_truncated_and_foreign_files(tmp_path):
    whole = Path(save(tmp_path / "whole.npz", content())).read_bytes()
    flipped = bytearray(whole)
    flipped[150:200] = bytes(255 - byte for byte in flipped[150:200])
    array = tmp_path / "array.npy"
    np.save(array, np.ones(3))
    for bytes_ in (b"", b"not a zip", whole[: len(whole) // 2], whole[:-1], bytes(flipped), array.read_bytes()):
        path = tmp_path / "bad.npz"
        path.write_bytes(bytes_)
        with pytest.raises(DataError, match="not a readable npz file"):
            load_field(str(path))


def test_pickled_objects_are_not_loaded(refused):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("an object of the file was unpickled",)

    said = refused({"z": np.array([Trap()], dtype=object)})
    assert "not a readable npz file" in said


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12),
    cut=st.one_of(st.none(), st.integers(0, 2000)),
    suffix=st.sampled_from([".npz", ".npz", ".npz", ".nc"]),
)
def test_any_bytes_give_a_field_or_one_line(edits, cut, suffix):
    """Every damage to a good file is either harmless or refused: nothing but `DataError` comes out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        data = bytearray(Path(save(Path(folder) / "good.npz", content())).read_bytes())
        for place, byte in edits:
            data[place % len(data)] = byte
        path.write_bytes(bytes(data[:cut]))
        try:
            field = load_field(str(path))
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert field.values.shape == (len(field.time), len(field.lat), len(field.lon))
            assert np.isfinite(field.values).all()


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_from_nowhere_are_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".npz", ".nc"):
            path = Path(folder) / f"f{suffix}"
            path.write_bytes(data)
            with pytest.raises(DataError):
                load_field(str(path))


def test_missing_coordinates_are_listed_with_what_was_found(refused):
    said = refused({"lat": None, "time": None})
    assert "missing lat, time" in said and "found lon, z" in said


def test_shapes(refused):
    z = content()["z"]
    assert "has shape (6, 4, 3), expected (time, lat, lon) = (6, 3, 4)" in refused({"z": z.transpose(0, 2, 1)})
    assert "has shape (5, 3, 4)" in refused({"z": z[:5]})
    assert "found none" in refused({"z": z[0]})


@pytest.mark.parametrize("name", ["lat", "lon", "time"])
def test_coordinates_must_be_lists(refused, name):
    values = content()[name]
    for wrong in (values[0], np.tile(values, (2, 1)).T):
        assert f"'{name}' has shape {wrong.shape}, expected one dimension" in refused({name: wrong})


def test_no_days_at_all(refused):
    assert "no days" in refused({"z": np.zeros((0, 3, 4)), "time": np.array([], "datetime64[h]")})


def test_kinds_of_numbers(refused):
    text = np.full((6, 3, 4), "5500")
    assert "'z' holds <U4, expected numbers" in refused({"z": text})
    assert "'lat' holds <U1, expected numbers" in refused({"lat": np.array(["N", "M", "S"])})
    assert "'z' holds complex128, expected numbers" in refused({"z": 1j * content()["z"].astype(complex)})
    assert "'lon' is not finite" in refused({"lon": np.array([0.0, np.nan, 10.0, 15.0])})


def test_days_that_are_not_finite_are_named(refused):
    z = content()["z"]
    z[3, 1, 2], z[4, 0, 0] = np.nan, np.inf
    said = refused({"z": z})
    assert "not finite on 2 of 6 days" in said and "2000-01-04T12" in said


@pytest.mark.parametrize(
    ("days", "after"),
    [
        (["01", "02", "04", "05", "06", "07"], "2000-01-02T12"),  # a gap
        (["01", "02", "03", "03", "04", "05"], "2000-01-03T12"),  # a day twice
        (["06", "05", "04", "03", "02", "01"], "2000-01-06T12"),  # backwards
    ],
)
def test_time_must_advance_by_one_day(refused, days, after):
    said = refused({"time": np.array([f"2000-01-{day}T12" for day in days])})
    assert f"does not after {after}" in said


@pytest.mark.parametrize(
    "time",
    [np.array(["one", "two", "3", "4", "5", "6"]), np.linspace(0.5, 5.5, 6), np.ones(6, bool)],
)
def test_times_must_be_dates(refused, time):
    assert "'time' must hold dates such as 2000-01-01" in refused({"time": time})


def test_two_fields_and_the_wrong_one(refused):
    two = {"t850": content()["z"]}
    said = refused(two)
    assert "found z, t850" in said and "data.variable=" in said
    assert "no field 't580' (time, lat, lon); did you mean 't850'?" in refused(two, "t580")
    assert "no field 'lat'" in refused(two, "lat")


def test_the_named_one_of_two_fields(tmp_path):
    arrays = content()
    path = save(tmp_path / "f.npz", arrays | {"t850": arrays["z"] - 5200, "note": np.array("any")})
    np.testing.assert_array_equal(load_field(path, "t850").values, arrays["z"] - 5200)


def dataset(arrays, *, order=("time", "lat", "lon"), names=None, variable="z"):
    xarray = pytest.importorskip("xarray")
    names = names or {}
    time = arrays["time"].astype("datetime64[ns]")
    coordinates = {"time": time, "lat": arrays["lat"], "lon": arrays["lon"]}
    field = xarray.DataArray(arrays["z"], coordinates, ("time", "lat", "lon")).transpose(*order)
    return field.rename(names).to_dataset(name=variable)


@pytest.mark.parametrize("order", [("time", "lat", "lon"), ("lon", "time", "lat"), ("lat", "lon", "time")])
@pytest.mark.parametrize("names", [{}, {"lat": "latitude", "lon": "longitude", "time": "valid_time"}])
def test_netcdf_equals_npz(tmp_path, order, names):
    arrays = content()
    dataset(arrays, order=order, names=names).to_netcdf(tmp_path / "f.nc")
    assert_same(load_field(str(tmp_path / "f.nc")), load_field(save(tmp_path / "f.npz", arrays)))


def test_npz_takes_the_long_coordinate_names_too(tmp_path):
    arrays = content()
    renamed = {"z": arrays["z"], "latitude": arrays["lat"], "longitude": arrays["lon"], "valid_time": arrays["time"]}
    assert_same(load_field(save(tmp_path / "a.npz", renamed)), load_field(save(tmp_path / "b.npz", arrays)))


def test_netcdf_with_other_dimensions_and_broken(tmp_path):
    path = tmp_path / "f.nc"
    arrays = content()
    dataset(arrays).rename_dims({"lat": "row"}).to_netcdf(path)
    with pytest.raises(DataError, match="'z' has dimensions time, row, lon; expected time, lat, lon"):
        load_field(str(path))
    path.write_bytes(b"CDF\x01 not really")
    with pytest.raises(DataError, match="not a readable netCDF file"):
        load_field(str(path))


@settings(max_examples=200, deadline=None)
@given(days=st.integers(1, 5000), validation=st.integers(1, 800), test=st.integers(1, 800))
def test_splits_never_overlap_and_leave_nothing_out(days, validation, test):
    split = split_by_time(days, validation_days=validation, test_days=test)
    parts = [np.arange(days)[part] for part in (split.train, split.validation, split.test)]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(days))  # in order of time, each day once
    assert len(parts[0]) >= days / 2
    assert len(parts[2]) <= test and len(parts[1]) <= validation


def test_split_of_a_long_record_is_what_was_asked_for():
    split = split_by_time(1096)
    assert (split.train.stop, split.validation.stop, split.test.stop) == (1096 - 365 - 182, 1096 - 365, 1096)
    split = split_by_time(4000, validation_days=365, test_days=366)
    assert (split.train.stop, split.validation.stop) == (4000 - 731, 4000 - 366)
