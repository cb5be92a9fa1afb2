"""Synthetic fields with known statistics."""

import numpy as np
import pytest

from jaxsci.emulators.fields import Field


@pytest.fixture(scope="session")
def make_field():
    """Daily fields of travelling waves and noise on a small grid, from 2001-01-01; the same for the same seed."""

    def make(days=400, seed=0, lats=4, lons=5) -> Field:
        rng = np.random.default_rng(seed)
        time = np.datetime64("2001-01-01", "h") + 24 * np.arange(days)
        lat, lon = np.linspace(60, 30, lats), np.linspace(0, 20, lons)
        day = np.arange(days)[:, None, None]
        season = 100 * np.cos(2 * np.pi * day / 365.25) * np.cos(np.deg2rad(lat))[:, None]
        wave = 40 * np.sin(0.7 * day - 0.3 * lon) * np.sin(np.deg2rad(2 * lat))[:, None]
        noise = rng.normal(size=(days, lats, lons)).cumsum(0)
        noise = noise - 0.9 * np.concatenate([np.zeros((1, lats, lons)), noise[:-1]])  # correlated, bounded
        return Field("z", 5500 + season + wave + 10 * noise, lat, lon, time)

    return make
