"""A small, sound file of every binary format the package reads, and the loader of each."""

import hashlib
import io
import struct
import tarfile
from importlib import resources
from pathlib import Path

import damage
import jax
import numpy as np
from formats import Format, holding
from PIL import Image

from experiments.stages import read_stage
from jaxsci.bayesnas.loaders.cifar10 import BATCHES, load_cifar10, records
from jaxsci.bayesnas.loaders.images import load_digits
from jaxsci.bayesnas.loaders.safe_pickle import read_pickle
from jaxsci.bayesnas.loaders.uci import load_tables
from jaxsci.bayesnas.oracle import load_tables as load_nas_tables
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.diffraction.measured import MeasuredConfig, load_intensity
from jaxsci.emulators.fields import load_field
from jaxsci.emulators.stabilized_ode.storage import load_model
from jaxsci.emulators.stabilized_ode.trajectories import load_trajectories
from jaxsci.transformer import safetensors
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.corpus import encode_file, open_text
from jaxsci.transformer.export import export_parameters, exported_model, import_parameters
from jaxsci.transformer.layout import layout
from jaxsci.transformer.model import init
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.tokenizer import Bytes
from jaxsci.workflows.flowbench import load_workflow

RNG = np.random.default_rng(0)
IMAGES = {name: RNG.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8) for name in BATCHES}
LABELS = np.arange(10, dtype=np.int32)
SHA1 = {name: hashlib.sha1(records(IMAGES[name], LABELS)).hexdigest() for name in BATCHES}
MODEL = ModelConfig(layers=1, width=8, heads=2, sequence=8, vocabulary=11)


def packaged(package: str, name: str) -> bytes:
    return (resources.files(package) / "data" / name).read_bytes()


def field() -> bytes:
    days = np.arange("2000-01-01", "2000-02-01", dtype="datetime64[D]").astype("datetime64[h]")
    z = 5500 + RNG.standard_normal((len(days), 3, 4))
    return damage.packed({"lat": np.array([50.0, 52.5, 55]), "lon": np.arange(4.0), "time": days, "z": z})


def write_netcdf(path: Path) -> None:
    import xarray

    with np.load(io.BytesIO(field())) as content:
        grid = {name: content[name] for name in ("time", "lat", "lon")}
        time = grid.pop("time").astype("datetime64[ns]")
        values = {"z": (("time", "lat", "lon"), content["z"])}
        xarray.Dataset(values, coords={"time": time, **grid}).to_netcdf(path)


def workflow() -> bytes:
    return damage.packed(
        {
            "x": RNG.random((3, 4, 2), np.float32),
            "features": np.array(["ready", "runtime"]),
            "host": RNG.integers(0, 2, (3, 4)),
            "hosts": np.array(["a", "b"]),
            "edges": np.array([[0, 1], [0, 2], [1, 3], [2, 3]]),
            "nodes": np.array(list("abcd")),
            "y": np.zeros((3, 4), int),
            "classes": np.array(["normal", "cpu_2"]),
            "start_epoch": np.arange(3.0),
        }
    )


def cifar() -> bytes:
    train = np.concatenate([IMAGES[name] for name in BATCHES[:5]])
    return damage.packed(
        {"x_train": train, "y_train": np.tile(LABELS, 5), "x_test": IMAGES["test_batch"], "y_test": LABELS}
    )


def cifar_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name in BATCHES:
            content = records(IMAGES[name][:, :, :, :], LABELS)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def write_cifar_pictures(path: Path) -> None:
    folder = path.parent
    for name in BATCHES:
        Image.fromarray(IMAGES[name].reshape(10, 1024, 3)).save(folder / f"{name}.png")
    (folder / "train_lables.json").write_text(str(np.tile(LABELS, 5).tolist()))
    (folder / "test_lables.json").write_text(str(LABELS.tolist()))


def python_pickle() -> bytes:
    """A dictionary with an array and a list, as Python 2 wrote it, protocol 2; by hand, as no pickle is used here."""
    data = np.arange(12, dtype=np.uint8).tobytes()
    text = lambda s: b"U" + bytes([len(s)]) + s  # noqa: E731
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R(K\x01(K\x03K\x04t"
    )
    array += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    array += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", len(data)) + data + b"tb"
    return b"\x80\x02}q\x00(" + text(b"data") + array + text(b"labels") + b"](K\x01K\x02K\x03eu."


def tables() -> bytes:
    test = np.stack([RNG.permutation(20)[:4] for _ in range(2)])
    return damage.packed({"a_x": RNG.random((20, 3)), "a_y": RNG.random(20), "a_test": test})


def trajectories() -> bytes:
    x = np.arange(16) * 22 / 16
    u = np.sin(2 * np.pi * (x + RNG.random((3, 8, 1))) / 22)
    return damage.packed({"u": u, "dt": np.array(0.25), "length": np.array(22.0)})


def write_safetensors(path: Path) -> None:
    mesh = make_mesh(MeshConfig(data=1), devices=jax.devices()[:1])
    params = init(MODEL, layout(MODEL, ParallelConfig(), mesh.shape), jax.random.key(0))
    export_parameters(path, MODEL, params, mesh)


def described(path: Path) -> object:
    return exported_model(path), {name: np.array(tensor) for name, tensor in safetensors.read(path)[0].items()}


def imported(path: Path) -> object:
    mesh = make_mesh(MeshConfig(data=1), devices=jax.devices()[:1])
    return import_parameters(path, MODEL, ParallelConfig(), mesh)


def write_tokens(path: Path) -> None:
    path.with_name("text.txt").write_text("to be or not to be, that is the question")
    encode_file(path.with_name("text.txt"), Bytes(), path)


def tokens(path: Path) -> object:
    return encode_file(path.with_name("text.txt"), Bytes(), path)


def digits(path: Path) -> object:
    return load_digits(str(path))


def small_digits() -> bytes:
    return damage.packed({"x": RNG.integers(0, 17, (30, 8, 8), dtype=np.uint8), "y": np.arange(30) % 10})


def intensity() -> np.ndarray:
    return RNG.poisson(3.0, (12, 12, 12)) + 1000 * np.pad(np.ones((1, 1, 1), int), ((6, 5),) * 3)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def whole(path: Path) -> object:
    return load_intensity(MeasuredConfig(path=str(path)))


def cifar_folder(path: Path) -> object:
    return load_cifar10(str(path.parent), sha1=SHA1)


ARRAYS = (damage.of_arrays,)
FORMATS = {
    "field npz": Format("field.npz", holding(field), lambda path: load_field(str(path)), ARRAYS),
    "field netCDF": Format("field.nc", write_netcdf, lambda path: load_field(str(path))),
    "workflow npz": Format("diamond.npz", holding(workflow), load_workflow, ARRAYS),
    "CIFAR-10 npz": Format("cifar.npz", holding(cifar), lambda path: load_cifar10(str(path)), ARRAYS),
    "CIFAR-10 tar": Format("cifar.tar.gz", holding(cifar_tar), lambda path: load_cifar10(str(path), sha1=SHA1)),
    "CIFAR-10 picture": Format("data_batch_3.png", write_cifar_pictures, cifar_folder),
    "CIFAR-10 labels": Format("train_lables.json", write_cifar_pictures, cifar_folder, (damage.of_json,)),
    "CIFAR-10 pickle": Format("batch", holding(python_pickle), lambda path: read_pickle(path.read_bytes(), str(path))),
    "digits npz": Format("digits.npz", holding(small_digits), digits, ARRAYS),
    "regression npz": Format("uci.npz", holding(tables), lambda path: load_tables(str(path)), ARRAYS),
    "architecture table": Format(
        "nas.npz",
        holding(lambda: packaged("jaxsci.bayesnas", "nasbench201.npz")),
        lambda path: load_nas_tables(str(path)),
        ARRAYS,
        cases=80,
    ),
    "trajectories npz": Format("u.npz", holding(trajectories), load_trajectories, ARRAYS),
    "stabilized model": Format(
        "model.npz", holding(lambda: packaged("jaxsci.emulators", "stabilized_ks22.npz")), load_model, ARRAYS, cases=150
    ),
    "diffraction npz": Format("scan.npz", holding(lambda: damage.packed({"intensity": intensity()})), whole, ARRAYS),
    "diffraction npy": Format("scan.npy", holding(lambda: npy(intensity())), whole),
    "finished stage": Format("stage.npz", holding(tables), read_stage, ARRAYS),
    "safetensors": Format("model.safetensors", write_safetensors, described),
    "safetensors, imported": Format("model.safetensors", write_safetensors, imported, cases=60),
    "text": Format(
        "text.txt", holding(lambda: b"to be or not to be, that is the question"), open_text, (damage.of_words,)
    ),
    "token file": Format("tokens.npy", write_tokens, tokens),
}
