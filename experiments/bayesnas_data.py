"""Data of the classification study: four disjoint parts, corrupted copies of the test set, inputs of no class."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bayesnas_arms import Problem
from experiments.bayesnas_config import Cifar10, Config, Digits
from jaxsci.bayesnas import corruption
from jaxsci.bayesnas.batches import Examples
from jaxsci.bayesnas.corruption.catalogue import SEVERITIES
from jaxsci.bayesnas.corruption.filters import plasma
from jaxsci.bayesnas.loaders.cifar10 import load_cifar10
from jaxsci.bayesnas.loaders.images import LabelledImages, load_digits, unit
from jaxsci.core.config import require
from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.host_random import generator

UNFAMILIAR = 500
MEAN, STD = np.array([0.4914, 0.4822, 0.4465], np.float32), np.array([0.2470, 0.2435, 0.2616], np.float32)


def load(config: Config) -> LabelledImages:
    """The images of `config.data`, checked. Raises `DataError` or `ConfigError`."""
    if isinstance(config.data, Digits):
        images, held = load_digits(config.data.path), config.data.architecture
        least = config.data.train + held + config.data.calibration + 100
        if len(images.train) < least:
            raise DataError(f"data.path: expected {least} images or more for this split, got {len(images.train)}")
    else:
        assert isinstance(config.data, Cifar10)
        if config.data.path is None:
            raise ConfigError("data.path: missing; give data.path=<CIFAR-10 as npz, folder or tar.gz>")
        images, held = load_cifar10(config.data.path), config.data.architecture
    require(
        config.search.batch_size <= held,
        "search.batch_size",
        f"at most data.architecture={held}",
        config.search.batch_size,
    )
    return images


def problem(config: Config, images: LabelledImages, seed: int) -> Problem:
    """The parts for one seed. Corruptions and inputs of no class are the same for every arm."""
    order = np.random.default_rng((config.seed, seed)).permutation(len(images.train))
    x, y = unit(images.train, images.levels), images.train_labels
    key = jax.random.fold_in(jax.random.key(config.seed + 1), seed)
    if isinstance(config.data, Digits):
        sizes = (config.data.train, config.data.architecture, config.data.calibration)
        train, architecture, calibration, rest = np.split(order, np.cumsum(sizes))
        test_x, test_y = x[rest], y[rest]
        family, severities, first = corruption.DIGITS, SEVERITIES, len(rest)
    else:
        assert isinstance(config.data, Cifar10) and images.test is not None and images.test_labels is not None
        sizes = (config.data.architecture, config.data.calibration)
        architecture, calibration, train = np.split(order, np.cumsum(sizes))
        test_x, test_y = unit(images.test, images.levels), images.test_labels
        family, severities, first = corruption.CIFAR10, config.data.severities, config.data.corrupted
    corrupted = {}
    for kind in family:
        for severity in severities:
            if images.levels == 255:
                whole = (test_x[:first] * 255 + 0.5).astype(np.uint8)
                made = corruption.corrupt_bytes(family, kind, severity, jnp.asarray(whole), key=key)
                made = unit(np.asarray(made), 255)
            else:
                made = corruption.corrupt(family, kind, severity, jnp.asarray(test_x[:first]), key=key)
            corrupted[kind, severity] = _examples(images, np.asarray(made), test_y[:first])
    unfamiliar = {kind: _scaled(images, made) for kind, made in _unfamiliar(test_x, key).items()}
    return Problem(
        _examples(images, x[train], y[train]),
        _examples(images, x[architecture], y[architecture]),
        _examples(images, x[calibration], y[calibration]),
        _examples(images, test_x, test_y),
        corrupted,
        unfamiliar,
        len(images.classes),
    )


def _scaled(images: LabelledImages, x: np.ndarray) -> jax.Array:
    """What the network sees: colours standardised, grey levels from 0 to 1."""
    return jnp.asarray((x - MEAN) / STD if x.shape[-1] == 3 else x)


def _examples(images: LabelledImages, x: np.ndarray, y: np.ndarray) -> Examples:
    return Examples(_scaled(images, x), jnp.asarray(y))


def _unfamiliar(test: np.ndarray, key) -> dict[str, np.ndarray]:
    """Images that are none: uniform noise, test images with their pixels shuffled, smooth random fields."""
    count = min(UNFAMILIAR, len(test))
    rng = generator(key)
    flat = test[:count].reshape(count, -1, test.shape[-1])
    shuffled = np.stack([image[rng.permutation(len(image))] for image in flat]).reshape(test[:count].shape)
    noise = rng.random(test[:count].shape, np.float32)
    keys = jax.random.split(key, count * test.shape[-1])
    smooth = jax.jit(jax.vmap(lambda k: plasma(test.shape[1], 2.0, key=k)))(keys)
    smooth = np.asarray(smooth).reshape(count, test.shape[-1], *test.shape[1:3]).transpose(0, 2, 3, 1)
    return {"noise": noise, "shuffled": shuffled, "smooth": smooth}
