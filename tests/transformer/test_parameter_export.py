"""The exported file, read by a reader that shares no code with the writer, and the way back onto any mesh."""

import json
import struct
from dataclasses import asdict, replace

import jax
import numpy as np
import pytest
import transformer_cases as cases

from jaxsci.core.errors import CheckpointError, DataError
from jaxsci.transformer import safetensors
from jaxsci.transformer.export import export_parameters, exported_model, import_parameters
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.safetensors import Entry

GPT = replace(cases.GPT, layers=6)
PIPELINE = ((1, 2, 4, 1), ParallelConfig(microbatches=4))  # eight stored layers, 128 stored rows
CIRCULAR = ((2, 1, 2, 2), ParallelConfig(microbatches=4, schedule="gpipe", virtual=2))  # two chunks of four


def independent(path):
    """The format by its specification: {name: array}, metadata."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length].decode()), content[8 + length :]
    assert content[8:9] == b"{" and length % 8 == 0
    metadata = header.pop("__metadata__")
    spans = sorted(entry["data_offsets"] for entry in header.values())
    assert spans[0][0] == 0 and spans[-1][1] == len(data)
    assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))  # no gaps, no overlaps
    arrays = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32"
        begin, end = entry["data_offsets"]
        arrays[name] = np.array(struct.unpack(f"<{(end - begin) // 4}f", data[begin:end]), np.float32)
        arrays[name] = arrays[name].reshape(entry["shape"])
    return arrays, metadata


def flat(model):
    """The initial parameters under the names of the file."""
    tree, named = cases.initial(model), {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        keys = [entry.key for entry in path]
        if keys[0] == "blocks":
            named |= {".".join(["blocks", str(n), *keys[1:]]): leaf[0, n] for n in range(model.layers)}
        else:
            named[".".join(keys)] = leaf
    return named


@pytest.mark.parametrize(("shape", "plan"), [PIPELINE, CIRCULAR])
@pytest.mark.parametrize("model", [GPT, replace(cases.LLAMA, layers=5)])
def test_every_number_arrives_under_its_name(tmp_path, model, shape, plan):
    on = cases.mesh(shape)
    export_parameters(tmp_path / "model.safetensors", model, cases.placed(model, plan, on), on)
    arrays, metadata = independent(tmp_path / "model.safetensors")
    expected = flat(model)
    assert set(arrays) == set(expected)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected[name])
    assert json.loads(metadata["jaxsci.model"]) == asdict(model)
    assert all(isinstance(value, str) for value in metadata.values())
    assert exported_model(tmp_path / "model.safetensors") == model
    assert list(tmp_path.iterdir()) == [tmp_path / "model.safetensors"]


@pytest.mark.parametrize(("shape", "plan"), [PIPELINE, CIRCULAR, ((1, 1, 1, 8), ParallelConfig())])
def test_the_way_back_onto_another_mesh(tmp_path, shape, plan):
    here = cases.mesh((1, 2, 2, 2))
    export_parameters(tmp_path / "m", GPT, cases.placed(GPT, ParallelConfig(), here), here)
    there = cases.mesh(shape)
    got, expected = import_parameters(tmp_path / "m", GPT, plan, there), cases.placed(GPT, plan, there)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert jax.tree.all(jax.tree.map(lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim), got, expected))


def test_signs_of_zeros_and_odd_numbers_survive(tmp_path):
    on, plan = cases.mesh((1, 1, 4, 2)), ParallelConfig(microbatches=4)
    params = cases.placed(GPT, plan, on)
    odd = np.array([-0.0, np.inf, -np.inf, np.nan, 1e-45], np.float32)
    scale = np.zeros(params["blocks"]["attention_norm"]["scale"].shape, np.float32)
    scale[0, :6, :5] = odd
    params["blocks"]["attention_norm"]["scale"] = jax.device_put(
        scale, params["blocks"]["attention_norm"]["scale"].sharding
    )
    export_parameters(tmp_path / "m", GPT, params, on)
    tensors, _ = safetensors.read(tmp_path / "m")
    for n in range(6):
        assert tensors[f"blocks.{n}.attention_norm.scale"][:5].tobytes() == odd.tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"layers": 5}, "expected model.layers=5, got 6"), ({"norm": "rmsnorm"}, "expected model.norm=rmsnorm")],
)
def test_a_file_of_another_model_is_one_line(tmp_path, change, said):
    on = cases.mesh((1, 1, 1, 2))
    export_parameters(tmp_path / "m", GPT, cases.placed(GPT, ParallelConfig(), on), on)
    with pytest.raises(CheckpointError) as e:
        import_parameters(tmp_path / "m", replace(GPT, **change), ParallelConfig(), on)
    assert said in str(e.value) and "\n" not in str(e.value)


def test_a_file_from_elsewhere_must_have_the_names_and_shapes(tmp_path):
    safetensors.write(tmp_path / "m", {"embed": Entry((2, 3), np.float32)}, [np.ones((2, 3), np.float32)])
    with pytest.raises(CheckpointError, match=r"expected blocks.0.attention.out to be float32.*, got nothing"):
        import_parameters(tmp_path / "m", GPT, ParallelConfig(), cases.mesh((1, 1, 1, 2)))
    with pytest.raises(CheckpointError, match="was not exported by jaxsci"):
        exported_model(tmp_path / "m")


def test_types_and_empty_arrays(tmp_path):
    arrays = {name: np.arange(6).reshape(2, 3).astype(kind) for name, kind in safetensors.DTYPES.items()} | {
        "empty": np.zeros((0, 4), np.float32),
        "scalar": np.array(2.5, np.float32),
    }
    entries = {name: Entry(a.shape, a.dtype) for name, a in arrays.items()}
    safetensors.write(tmp_path / "m", entries, arrays.values(), {"a": "ü"})
    tensors, metadata = safetensors.read(tmp_path / "m")
    assert metadata == {"a": "ü"} and list(tensors) == list(arrays)
    for name, array in arrays.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(np.asarray(tensors[name]), array)


def file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        file(b"{}", length=1 << 40),
        file(b"not json"),
        file(b"[1]"),
        file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),  # cut off
        file({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        file({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, b"1234"),
        file({"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}, b"1234"),
        file({"a": {"dtype": "O", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        file({"a": {"shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        file({"a": 3}),
    ],
)
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(DataError) as e:
        safetensors.read(tmp_path / "m")
    assert "\n" not in str(e.value) and str(tmp_path / "m") in str(e.value)


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    entries = {"a": Entry((2,), np.float32), "b": Entry((2,), np.float32)}
    pair = [np.ones(2, np.float32)] * 2
    safetensors.write(tmp_path / "m", entries, pair)
    before = (tmp_path / "m").read_bytes()
    with pytest.raises(ValueError, match="b: announced"):
        safetensors.write(tmp_path / "m", entries, [pair[0], np.zeros(3, np.float32)])
    assert (tmp_path / "m").read_bytes() == before and list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_the_reference_implementation_reads_what_we_write_and_we_read_what_it_writes(tmp_path):
    from safetensors.numpy import load_file, save_file

    on = cases.mesh((1, 1, 1, 1))
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    export_parameters(ours, GPT, cases.placed(GPT, ParallelConfig(), on), on)
    arrays = load_file(ours)
    expected = flat(GPT)
    assert arrays.keys() == expected.keys()
    save_file(arrays, theirs)
    read, _ = safetensors.read(theirs)
    for name, value in expected.items():
        real = np.asarray(value)[: GPT.vocabulary] if name == "embed" else np.asarray(value)
        np.testing.assert_array_equal(arrays[name], real)
        np.testing.assert_array_equal(read[name], real)
