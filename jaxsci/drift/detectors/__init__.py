"""Other detectors behind the same door, `init()` and `update(state, x) -> (state, Verdict)`; and PELT, offline."""

from jaxsci.drift.detectors.adwin import Adwin as Adwin
from jaxsci.drift.detectors.kswin import Kswin as Kswin
from jaxsci.drift.detectors.page_hinkley import PageHinkley as PageHinkley
from jaxsci.drift.detectors.pelt import pelt as pelt
