"""The packages that benchmarks compare with: extra `bench`, imported only where they are used."""

import importlib
import importlib.util
from typing import Any

from jaxsci.core.errors import JaxsciError


def package(name: str) -> Any:
    """The module `name`. Raises `JaxsciError` where its package is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise JaxsciError(
            f"this benchmark needs {name} ({error}); install the peers with: pip install 'jaxsci[bench]'"
        ) from None


def installed(name: str) -> bool:
    """Whether the package of the module `name` is there."""
    return importlib.util.find_spec(name) is not None
