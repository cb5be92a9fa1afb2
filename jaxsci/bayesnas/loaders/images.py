"""Labelled images in memory, checked once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxsci.bayesnas.loaders.npz import packaged, read_npz
from jaxsci.core.errors import DataError

DIGITS = "digits.npz"


@dataclass(frozen=True)
class LabelledImages:
    """Training and test images as `uint8` of values 0 to `levels`; `test` is None where there is no fixed split."""

    name: str
    train: UInt8[np.ndarray, "train height width colours"]
    train_labels: Int[np.ndarray, " train"]
    test: UInt8[np.ndarray, "test height width colours"] | None
    test_labels: Int[np.ndarray, " test"] | None
    classes: tuple[str, ...]
    levels: int


def unit(images: UInt8[np.ndarray, "*dims"], levels: int) -> Float[np.ndarray, "*dims"]:
    """Values from 0 to 1 as float32."""
    return images.astype(np.float32) / levels


def load_digits(path: str | None = None) -> LabelledImages:
    """8 x 8 digits of 17 grey levels from an npz file with `x` and `y`; `None` reads the packaged ones."""
    if path is None:
        with packaged(DIGITS) as file:
            return load_digits(str(file))
    content = read_npz(Path(path), ("x", "y"))
    labels = check_labels(path, "y", content["y"], 10)
    images = check_images(path, "x", content["x"], len(labels))
    if images.max(initial=0) > 16:
        raise DataError(f"{path}: expected grey levels 0 to 16 in 'x', got {images.max()}")
    return LabelledImages("digits", images, labels, None, None, tuple("0123456789"), 16)


def check_images(path: str | Path, key: str, images: np.ndarray, count: int) -> UInt8[np.ndarray, "n h w c"]:
    """The images with a colour axis. Raises `DataError` for another dtype, shape or number."""
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{path}: expected '{key}' as uint8 (images, height, width[, colours]), got {images.dtype} {images.shape}"
        )
    if len(images) != count or count == 0:
        raise DataError(f"{path}: expected as many images in '{key}' as labels, got {len(images)} and {count}")
    return images[..., None] if images.ndim == 3 else images


def check_labels(path: str | Path, key: str, labels: np.ndarray, classes: int) -> Int[np.ndarray, " n"]:
    """Labels as int32. Raises `DataError` for one out of range, and for a class of which there is none."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: expected '{key}' as a list of whole numbers, got {labels.dtype} {labels.shape}")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        first = wrong[0]
        raise DataError(
            f"{path}: expected labels 0 to {classes - 1} in '{key}', got {labels[first]} at {first} "
            f"({len(wrong)} in all); correct or remove them"
        )
    missing = sorted(set(range(classes)) - set(np.unique(labels).tolist()))
    if missing:
        raise DataError(f"{path}: no example of class {', '.join(map(str, missing))} in '{key}'; add some")
    return labels.astype(np.int32)
