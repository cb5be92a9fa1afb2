"""Errors meant for the person at the keyboard: one line that says what was expected, what came and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 2000  # characters of a message; more than anyone reads


class JaxsciError(Exception):
    """Base of every error that `experiments.run` prints as a single line before it exits with code 2."""

    def __str__(self) -> str:
        """The message on one line, however much of a broken file found its way into it.

        Line breaks and whatever else commands a terminal become spaces; the middle of an endless message is left out.
        """
        text = "".join(letter if letter.isprintable() else " " for letter in super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 500]} ... {text[-495:]}"


class ConfigError(JaxsciError):
    """A configuration key is unknown, has the wrong type or is out of range."""


class DataError(JaxsciError):
    """A data file is missing, malformed, of the wrong shape, or holds values that are not finite."""


class CheckpointError(JaxsciError):
    """No usable checkpoint, or one that belongs to another model."""


class NonFiniteError(JaxsciError):
    """A loss or state became NaN or infinite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suffix such as `; did you mean 'modes'?`, or the list of what is known when nothing is close."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
