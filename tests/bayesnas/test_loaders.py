"""Loaders: every form of CIFAR-10 gives the same images, and what is wrong with a file is said in one line."""

import hashlib
import json
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from jaxsci.bayesnas.loaders.cifar10 import BATCHES, load_cifar10, records
from jaxsci.bayesnas.loaders.images import load_digits
from jaxsci.bayesnas.loaders.safe_pickle import read_pickle
from jaxsci.bayesnas.loaders.uci import load_tables, standardised
from jaxsci.core.errors import DataError

PER_BATCH = 20
RNG = np.random.default_rng(0)
IMAGES = {name: RNG.integers(0, 256, (PER_BATCH, 32, 32, 3), dtype=np.uint8) for name in BATCHES}
LABELS = {name: RNG.permutation(np.arange(PER_BATCH) % 10).astype(np.int32) for name in BATCHES}
SHA1 = {n: hashlib.sha1(records(IMAGES[n], LABELS[n])).hexdigest() for n in BATCHES}


def planes(name):
    return IMAGES[name].transpose(0, 3, 1, 2).reshape(PER_BATCH, -1)


def python_pickle(data: np.ndarray, labels) -> bytes:
    """What Python 2 wrote: a dictionary of byte strings, an array and a list, protocol 2."""
    text = lambda s: b"U" + bytes([len(s)]) + s  # noqa: E731
    number = lambda n: b"J" + struct.pack("<i", n)  # noqa: E731
    content = data.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b")
        + b"\x87R("
        + b"K\x01("
        + number(data.shape[0])
        + number(data.shape[1])
        + b"t"
        + b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T"
        + struct.pack("<I", len(content))
        + content
        + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([int(label)]) for label in labels) + b"e"
    return b"\x80\x02}q\x00(" + text(b"data") + array + text(b"labels") + listed + b"u."


@pytest.fixture(params=["binary", "pickle", "png", "tar.gz"])
def folder(request, tmp_path):
    for name in BATCHES:
        if request.param in ("binary", "tar.gz"):
            (tmp_path / f"{name}.bin").write_bytes(records(IMAGES[name], LABELS[name]))
        elif request.param == "pickle":
            (tmp_path / name).write_bytes(python_pickle(planes(name), LABELS[name]))
        else:
            Image.fromarray(IMAGES[name].reshape(PER_BATCH, 1024, 3)).save(tmp_path / f"{name}.png")
    if request.param == "png":
        listed = np.concatenate([LABELS[name] for name in BATCHES[:5]]).tolist()
        (tmp_path / "train_lables.json").write_text(json.dumps(listed))
        (tmp_path / "test_lables.json").write_text(json.dumps(LABELS["test_batch"].tolist()))
    if request.param == "tar.gz":
        with tarfile.open(tmp_path / "cifar.tar.gz", "w:gz") as archive:
            for file in tmp_path.glob("*.bin"):
                archive.add(file, f"cifar-10-batches-bin/{file.name}")
        return tmp_path / "cifar.tar.gz"
    return tmp_path


def test_every_form_gives_the_same_images(folder):
    images = load_cifar10(str(folder), sha1=SHA1)
    assert images.test is not None
    np.testing.assert_array_equal(images.train, np.concatenate([IMAGES[name] for name in BATCHES[:5]]))
    np.testing.assert_array_equal(images.train_labels, np.concatenate([LABELS[name] for name in BATCHES[:5]]))
    np.testing.assert_array_equal(images.test, IMAGES["test_batch"])


def test_a_damaged_file_fails_its_hash(folder):
    with pytest.raises(DataError, match="SHA-1 .*, expected .*; the file is damaged or not CIFAR-10"):
        load_cifar10(str(folder), sha1=SHA1 | {"data_batch_3": "0" * 40})


def npz(tmp_path, **changes):
    content = {
        "x_train": np.concatenate([IMAGES[name] for name in BATCHES[:5]]),
        "y_train": np.concatenate([LABELS[name] for name in BATCHES[:5]]),
        "x_test": IMAGES["test_batch"],
        "y_test": LABELS["test_batch"],
    }
    np.savez(tmp_path / "c.npz", **(content | changes))
    return str(tmp_path / "c.npz")


def test_an_npz_file_is_read(tmp_path):
    assert len(load_cifar10(npz(tmp_path)).train) == 5 * PER_BATCH


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"y_test": np.full(PER_BATCH, 10)}, "labels 0 to 9 in 'y_test', got 10 at 0 .20 in all."),
        ({"y_test": np.arange(PER_BATCH) % 9}, "no example of class 9 in 'y_test'"),
        ({"x_test": IMAGES["test_batch"][:3]}, "as many images in 'x_test' as labels, got 3 and 20"),
        ({"x_test": IMAGES["test_batch"].astype(float)}, "uint8"),
        ({"x_test": IMAGES["test_batch"][:, :8]}, "32 x 32 x 3"),
    ],
)
def test_what_is_wrong_with_an_npz_file(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load_cifar10(npz(tmp_path, **changes))


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_cifar10(str(tmp_path / "absent"))
    with pytest.raises(DataError, match="found nothing"):
        load_cifar10(str(tmp_path))


def test_a_pickle_that_would_run_something_is_refused():
    for bad in (b"\x80\x02cos\nsystem\nU\x04echo\x85R.", b"\x80\x02cbuiltins\neval\n."):
        with pytest.raises(DataError, match="wants to call .* not allowed"):
            read_pickle(bad, "evil")
    with pytest.raises(DataError, match="readable pickle|complete pickle"):
        read_pickle(b"\x80\x02}q", "cut")
    assert read_pickle(b"\x80\x02}U\x01aK\x05s.", "fine") == {b"a": 5}


def test_packaged_digits():
    digits = load_digits()
    assert digits.train.shape == (1797, 8, 8, 1) and digits.levels == 16
    np.testing.assert_array_equal(np.bincount(digits.train_labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])


def test_tables_and_their_standardisation(tmp_path):
    x, y = RNG.normal(3, 2, (30, 3)), RNG.normal(-1, 5, 30)
    x[:, 1] = 7.0  # a constant column
    file = tmp_path / "t.npz"
    np.savez(file, toy_x=x, toy_y=y, toy_test=np.array([[0, 1, 2], [3, 4, 5]]))
    (table,) = load_tables(str(file))
    data = standardised(table, 1)
    assert data.x_train.shape == (27, 3) and data.y_train.std() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(data.scale * data.y_test + data.shift, y[3:6], rtol=1e-5)
    assert not data.x_train[:, 1].any()
    with pytest.raises(DataError, match="did you mean 'toy'"):
        load_tables(str(file), ("toi",))
    np.savez(file, toy_x=x, toy_y=y, toy_test=np.array([[99]]))
    with pytest.raises(DataError, match="row numbers 0 to 29"):
        load_tables(str(file))
