"""Tokenizers, token files and the stateless order of batches."""

import numpy as np
import pytest
import transformer_cases as cases
from hypothesis import given
from hypothesis import strategies as some

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.transformer.corpus import encode_file, open_text, split
from jaxsci.transformer.data import Windows, permute, validation_batch
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.step import batch_sharding
from jaxsci.transformer.tokenizer import BytePairs, Bytes


@given(some.text())
def test_bytes_give_any_text_back(text):
    assert Bytes().decode(Bytes().encode(text)) == text


@given(some.integers(1, 2000), some.integers(0, 2**60))
def test_permute_is_a_permutation(n, seed):
    assert np.array_equal(np.sort(permute(np.arange(n), n, seed)), np.arange(n))


def test_permute_mixes():
    """Neighbours part, seeds differ, and no place keeps more than its share: chi-square of first places over
    seeds.
    """
    n = 1000
    moved = permute(np.arange(n), n, 1)
    assert abs(np.corrcoef(np.arange(n), moved)[0, 1]) < 0.13  # 4 deviations of a random permutation, 4/sqrt(1000)
    assert (permute(np.arange(n), n, 2) != moved).mean() > 0.98
    first = [int(permute(np.array([0]), 10, seed)[0]) for seed in range(2000)]
    excess = ((np.bincount(first, minlength=10) - 200) ** 2 / 200).sum()
    assert excess < 27.9  # 99.9 % point of chi-square with 9 degrees of freedom


@pytest.mark.parametrize("length, sequence", [(1000, 16), (17, 16), (33, 16), (48, 16)])
def test_an_epoch_visits_every_window_once(length, sequence):
    windows = Windows(np.arange(length), sequence, seed=3)
    for epoch in range(3):
        starts = np.sort(windows.starts(np.arange(windows.count) + epoch * windows.count))
        assert (np.diff(starts) == sequence).all() and starts[0] >= 0 and starts[-1] + sequence + 1 <= length
    if length == 1000:
        assert len({int(windows.starts(np.arange(windows.count) + e * windows.count).min()) for e in range(8)}) > 3


def test_targets_are_the_next_tokens_and_steps_do_not_overlap():
    windows = Windows(np.arange(10_000), 16)
    first, second = windows.batch(0, 8, 2), windows.batch(1, 8, 2)
    assert first.inputs.shape == (2, 4, 16) and first.inputs.dtype == np.int32
    np.testing.assert_array_equal(first.inputs[..., 1:], first.targets[..., :-1])
    np.testing.assert_array_equal(first.targets, first.inputs + 1)
    assert not set(first.inputs.ravel()) & set(second.inputs.ravel())


def test_the_batch_of_a_step_is_the_same_for_any_micro_batches_and_any_resumption():
    windows = Windows(np.arange(10_000), 16, seed=5)

    def flat(batch):
        return batch.inputs.reshape(-1, 16)

    np.testing.assert_array_equal(flat(windows.batch(7, 8, 1)), flat(windows.batch(7, 8, 4)))
    again = Windows(np.arange(10_000), 16, seed=5)
    np.testing.assert_array_equal(again.batch(7, 8, 1).inputs, windows.batch(7, 8, 1).inputs)
    other = Windows(np.arange(10_000), 16, seed=6)
    assert not np.array_equal(other.batch(7, 8, 1).inputs, windows.batch(7, 8, 1).inputs)


@pytest.mark.parametrize("schedule", ["1f1b", "gpipe"])
def test_one_process_holds_the_whole_batch(schedule):
    plan, on = ParallelConfig(microbatches=4, schedule=schedule), cases.mesh((2, 1, 2, 2))
    windows = Windows(np.arange(10_000), 16)
    whole, local = windows.batch(3, 8, 4), windows.batch(3, 8, 4, batch_sharding(plan, on))
    np.testing.assert_array_equal(whole.inputs, local.inputs)


@pytest.mark.parametrize(
    "content",
    [
        b"plain text\n",
        "Unicode: äöü, 漢字\r\nCRLF, no final newline".encode(),
        "latin: \xe9\xe8".encode("latin-1"),
        "with a mark".encode("utf-16"),
        "without a mark".encode("utf-16-le"),
        b"x",
    ],
)
def test_any_text_is_taken_as_its_bytes(tmp_path, content):
    file = tmp_path / "text"
    file.write_bytes(content)
    assert open_text(file).tobytes() == content


@pytest.mark.parametrize(
    "content, says", [(b"", "is empty"), (bytes(range(256)) * 20, "looks binary"), (None, "no such file")]
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path, content, says):
    file = tmp_path / "text"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        open_text(file)
    assert "\n" not in str(caught.value)


def test_a_text_shorter_than_a_sequence_is_refused():
    with pytest.raises(DataError, match="the validation part has 10 tokens, a sequence of 16 needs 17"):
        split(np.arange(100), 16)
    with pytest.raises(DataError, match="needs 17"):
        Windows(np.arange(16), 16)
    train, validation = split(np.arange(1000), 16)
    assert len(train) == 900 and validation[0] == 900


def test_validation_covers_the_text_and_never_changes():
    batch = validation_batch(np.arange(1000), 16, 12, 3)
    assert batch.inputs.shape == (3, 4, 16)
    assert batch.inputs.min() == 0 and batch.targets.max() == 999
    np.testing.assert_array_equal(batch.targets, batch.inputs + 1)


def test_byte_pairs(tmp_path):
    pytest.importorskip("tokenizers")
    text = "the cat sat on the mat; the hat is on the cat. äöü\n" * 50
    (tmp_path / "text").write_text(text)
    pairs = BytePairs.train(tmp_path / "text", 300)
    ids = encode_file(tmp_path / "text", pairs, tmp_path / "ids.npy")
    assert pairs.decode(ids) == text and len(ids) < len(text.encode()) / 2
    pairs.save(tmp_path / "pairs.json")
    np.testing.assert_array_equal(BytePairs.load(tmp_path / "pairs.json").encode(text), ids)


def test_encoded_files_are_mapped_and_written_once(tmp_path):
    (tmp_path / "text").write_text("abc")
    ids = encode_file(tmp_path / "text", Bytes(), tmp_path / "ids.npy")
    assert isinstance(ids, np.memmap) and ids.tolist() == [97, 98, 99]
    (tmp_path / "text").write_text("xyz")
    assert encode_file(tmp_path / "text", Bytes(), tmp_path / "ids.npy").tolist() == [97, 98, 99]


def test_byte_pairs_need_all_bytes(tmp_path):
    with pytest.raises(ConfigError, match="at least the 256 bytes"):
        BytePairs.train(tmp_path / "text", 100)
