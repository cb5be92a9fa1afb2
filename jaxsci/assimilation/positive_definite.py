"""The check of covariances that come from outside."""

import numpy as np

from jaxsci.core.errors import DataError


def require_positive_definite(name: str, matrix: np.ndarray) -> None:
    """Raise `DataError` unless these variances, or this matrix, are finite, symmetric and positive definite."""
    if not np.isfinite(matrix).all():
        raise DataError(f"{name}: expected finite entries, got NaN or infinity")
    rounding = max(1e-10, 100 * float(np.finfo(matrix.dtype).eps))
    if matrix.ndim == 2 and not np.allclose(matrix, matrix.T, rtol=rounding, atol=rounding * np.abs(matrix).max()):
        raise DataError(f"{name}: expected a symmetric matrix")
    smallest = float(matrix.min() if matrix.ndim == 1 else np.linalg.eigvalsh(matrix)[0])
    if smallest <= 0:
        raise DataError(
            f"{name}: expected a positive definite covariance, the smallest eigenvalue is {smallest:.3g}; "
            "add a small multiple of the identity"
        )
