"""A trained model in one npz file: its parameters, and the configs that build it again."""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.core.config import build, to_mapping
from jaxsci.core.errors import DataError, JaxsciError
from jaxsci.core.files import open_atomic
from jaxsci.core.reading import existing, read_npz
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.variants import Domain, VariantConfig, build_model, guarded


def save_model(path: str | Path, model: StabilizedOde, config: VariantConfig, domain: Domain) -> None:
    """Write one model (no seed axis); data spacing and domain go with the weights."""
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    described = json.dumps({"variant": to_mapping(config), "domain": to_mapping(domain)})
    arrays = {f"parameter_{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    with open_atomic(Path(path)) as file:
        np.savez(file, description=np.array(described), **arrays)  # type: ignore[arg-type]


def load_model(path: str | Path) -> tuple[StabilizedOde, Domain]:
    """The model with its guard, ready for long rollouts. Raises `DataError` for a file that holds no such model."""
    path = existing(path, "a model; train one with experiment=stabilized_ode")
    try:
        content = read_npz(path)
        described: dict[str, Any] = json.loads(str(content.pop("description")))
        config, domain = build(VariantConfig, described["variant"]), build(Domain, described["domain"])
    except (ValueError, KeyError, TypeError, RecursionError, JaxsciError):
        raise DataError(f"{path}: expected a model written by experiment=stabilized_ode, got something else") from None
    model = build_model(config, domain, key=jax.random.key(0))
    parameters, rest = eqx.partition(model, eqx.is_array)
    expected, structure = jax.tree.flatten(parameters)
    found = [content.get(f"parameter_{i}") for i in range(len(expected))]
    if len(content) != len(expected) or any(
        a is None or a.shape != b.shape or a.dtype.kind != b.dtype.kind or not np.isfinite(a).all()
        for a, b in zip(found, expected, strict=True)
    ):
        raise DataError(f"{path}: the parameters do not fit the model described in the file; it is damaged")
    model = eqx.combine(jax.tree.unflatten(structure, [jnp.asarray(a) for a in found]), rest)
    return guarded(model, config, domain), domain
