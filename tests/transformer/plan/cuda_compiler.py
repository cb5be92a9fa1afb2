"""Whether this environment can compile for CUDA, decided once for the tests that need it."""

import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.plan.target import TARGETS, devices


def installed() -> bool:
    try:
        return len(devices(TARGETS["h100"], 1)) == 1
    except ConfigError:
        return False


needs_compiler = pytest.mark.skipif(not installed(), reason="no CUDA compiler here: pip install 'jaxsci[plan]'")
