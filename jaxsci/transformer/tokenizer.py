"""Text to token ids and back: bytes by default, byte-pair encoding trained on the text itself on request."""

import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.files import write_atomic
from jaxsci.core.reading import existing, reason


class Tokenizer(Protocol):
    """`vocabulary` ids; `decode(encode(text))` gives the text back."""

    vocabulary: int

    def encode(self, text: str) -> np.ndarray: ...

    def decode(self, ids: np.ndarray) -> str: ...


class Bytes:
    """Every byte of the UTF-8 text is a token: nothing to train, no text it cannot express."""

    vocabulary = 256

    def encode(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode("utf-8"), np.uint8)

    def decode(self, ids: np.ndarray) -> str:
        """Text of the ids; bytes that are no UTF-8, such as half a character, become replacement marks."""
        return np.asarray(ids).astype(np.uint8).tobytes().decode("utf-8", errors="replace")


class BytePairs:
    """Byte-level byte-pair encoding (Sennrich et al. 1508.07909), held by the `tokenizers` package."""

    def __init__(self, model: Any):
        self._model = model
        self.vocabulary: int = model.get_vocab_size()

    @classmethod
    def train(cls, text: Path, vocabulary: int) -> "BytePairs":
        """Learn `vocabulary` tokens (at least the 256 bytes) from a text file, offline."""
        if vocabulary < 256:
            raise ConfigError(f"vocabulary: expected at least the 256 bytes, got {vocabulary}")
        package = _package()
        model = package.Tokenizer(package.models.BPE())
        model.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = package.decoders.ByteLevel()
        alphabet = package.pre_tokenizers.ByteLevel.alphabet()
        trainer = package.trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
        model.train([str(text)], trainer)
        return cls(model)

    @classmethod
    def load(cls, file: Path) -> "BytePairs":
        """Read what `save` wrote. Raises `DataError` for anything else."""
        existing(file, "a tokenizer; train one with BytePairs.train")
        try:
            return cls(_package().Tokenizer.from_file(str(file)))
        except ConfigError:
            raise
        except Exception as error:  # the package knows no other
            raise DataError(f"tokenizer: {file} is damaged ({reason(error)}); remove it to train anew") from None

    def save(self, file: Path) -> None:
        """Write the file, whole or not at all. Raises `JaxsciError` when the disk refuses."""
        write_atomic(file, self._model.to_str(pretty=True))

    def encode(self, text: str) -> np.ndarray:
        wide = np.uint16 if self.vocabulary <= 2**16 else np.uint32
        return np.array(self._model.encode(text).ids, wide)

    def decode(self, ids: np.ndarray) -> str:
        return self._model.decode([int(i) for i in np.asarray(ids).ravel()])


def _package() -> Any:
    try:
        return importlib.import_module("tokenizers")
    except ImportError:
        raise ConfigError("tokenizer: byte pairs need the package 'tokenizers'; install it, or use bytes") from None
