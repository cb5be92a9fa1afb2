"""Ways to break a file, as hypothesis strategies: its bytes, its words, its arrays, or the values in its JSON."""

import gzip
import io
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck
from hypothesis import strategies as st

UNCHECKED = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
    HealthCheck.function_scoped_fixture,
)
"""Health checks of hypothesis that do not hold for whole files."""

ODD_WORDS = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "-0.5",
    "1e308",
    "9" * 30,
    "9" * 5000,
    "0x10",
    "1_000",
    "--",
    "None",
    "true",
    "\x00",
    "\x1b[2J",
    "é",
    "١٢٣",
    "\u202e",
    '"',
    "'",
    "(",
    "[" * 3000,
    "(" * 3000,
    "-" * 3000,
    "a\nb",
    "1,5",
    "../../etc/passwd",
    "__import__('os').system('true')",
    "<script>alert(1)</script>",
    "x" * 20_000,
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    "",
    "text",
    "a\nb\x1b[2J",
    -1,
    0,
    0.5,
    1e308,
    -1e308,
    10**30,
    10**400,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [1, "two", None],
    {"a": {"b": []}},
)
_WORD = re.compile(rb"[^\s,;:|()\"'\[\]{}]+")


class Damage(NamedTuple):
    """What was done, for the count, and the file that comes out."""

    kind: str
    content: bytes


def of_bytes(content: bytes) -> st.SearchStrategy[Damage]:
    """Bits flipped, ends cut off, parts added, lost or doubled, and files that have nothing to do with the format."""
    place = st.integers(0, max(len(content) - 1, 0))
    length = st.integers(1, 64)
    head = st.integers(0, min(len(content) - 1, 200))  # where formats keep what they believe

    def flipped(places: list[tuple[int, int]]) -> Damage:
        broken = bytearray(content)
        for at, bit in places:
            broken[at] ^= 1 << bit
        return Damage("bits flipped", bytes(broken))

    return st.one_of(
        st.lists(st.tuples(place | head, st.integers(0, 7)), min_size=1, max_size=8).map(flipped),
        place.map(lambda at: Damage("truncated", content[:at])),
        st.tuples(place, st.binary(min_size=1, max_size=64)).map(
            lambda d: Damage("bytes inserted", content[: d[0]] + d[1] + content[d[0] :])
        ),
        st.tuples(place, length).map(lambda d: Damage("bytes lost", content[: d[0]] + content[d[0] + d[1] :])),
        st.tuples(place, length).map(
            lambda d: Damage("bytes zeroed", content[: d[0]] + bytes(d[1]) + content[d[0] + d[1] :])
        ),
        place.map(lambda at: Damage("part doubled", content[:at] + content[at // 2 :])),
        st.binary(max_size=200).map(lambda noise: Damage("noise", noise)),
        st.sampled_from((b"", b"\n", b"\x00" * 100, b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000)).map(
            lambda other: Damage("empty or endless", other)
        ),
    )


def of_words(content: bytes) -> st.SearchStrategy[Damage]:
    """A word of a text replaced by what no one expects there; lines lost, doubled or moved."""
    words = [match.span() for match in _WORD.finditer(content)]
    lines = content.splitlines(keepends=True)

    def replaced(drawn: tuple[int, str]) -> Damage:
        start, end = words[drawn[0]]
        return Damage("word replaced", content[:start] + drawn[1].encode() + content[end:])

    def rearranged(drawn: tuple[int, int, str]) -> Damage:
        at, to, way = drawn
        kept = lines[:at] + lines[at + 1 :] if way != "doubled" else list(lines)
        if way != "lost":
            kept.insert(to, lines[at])
        return Damage(f"line {way}", b"".join(kept))

    line = st.integers(0, len(lines) - 1)
    return st.one_of(
        st.tuples(st.integers(0, len(words) - 1), st.sampled_from(ODD_WORDS)).map(replaced),
        st.tuples(line, line, st.sampled_from(("lost", "doubled", "moved"))).map(rearranged),
    )


def of_json(content: bytes) -> st.SearchStrategy[Damage]:
    """A value anywhere in the tree replaced by another type, a number beyond bounds or nothing; an entry lost."""
    places = list(_places(json.loads(content)))

    def changed(drawn: tuple[tuple, Any]) -> Damage:
        place, value = drawn
        return Damage("value replaced", _dump(_changed(json.loads(content), place, lambda *_: value)))

    def lost(place: tuple) -> Damage:
        return Damage("entry lost", _dump(_changed(json.loads(content), place, None)))

    inner = [place for place in places if place]
    return st.one_of(
        st.tuples(st.sampled_from(places), st.sampled_from(ODD_VALUES)).map(changed),
        st.sampled_from(inner).map(lost),
    )


def of_json_lines(content: bytes) -> st.SearchStrategy[Damage]:
    """One line's JSON damaged."""
    lines = content.splitlines()

    def one(at: int) -> st.SearchStrategy[Damage]:
        def among(damage: Damage) -> Damage:
            return Damage(damage.kind, b"\n".join([*lines[:at], damage.content, *lines[at + 1 :]]) + b"\n")

        return of_json(lines[at]).map(among)

    return st.integers(0, len(lines) - 1).flatmap(one)


def of_arrays(content: bytes) -> st.SearchStrategy[Damage]:
    """Arrays of an npz archive with other shapes, types and values, renamed or lost."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}

    def changed(drawn: tuple[str, str]) -> Damage:
        name, what = drawn
        others = {other: value for other, value in arrays.items() if other != name}
        if what == "lost":
            return Damage("array lost", packed(others))
        if what == "renamed":
            return Damage("array lost", packed({**others, name + "_": arrays[name]}))
        kind, change = CHANGES[what]
        with np.errstate(all="ignore"):
            return Damage(kind, packed({**others, name: change(arrays[name])}))

    return st.tuples(st.sampled_from(sorted(arrays)), st.sampled_from(("lost", "renamed", *CHANGES))).map(changed)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def within_gzip(damages: Callable[[bytes], st.SearchStrategy[Damage]], content: bytes) -> st.SearchStrategy[Damage]:
    """What is inside a gzip file damaged, the compression sound."""
    inside = gzip.decompress(content)
    return damages(inside).map(lambda damage: Damage(damage.kind, gzip.compress(damage.content, 1)))


def _with(value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The middle entry replaced, in a type that can hold the value."""

    def change(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind not in "iuf":
            return np.full(array.shape, value)
        changed = array.astype(np.float64 if array.dtype.kind != "f" else array.dtype)
        changed.reshape(-1)[changed.size // 2 : changed.size // 2 + 1] = value
        return changed

    return change


def _whole(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        changed = (array if array.dtype.kind in "iuf" else np.zeros(array.shape)).astype(np.int64)
        changed.reshape(-1)[:1] = value
        return changed

    return change


CHANGES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "nan": ("NaN or infinity", _with(np.nan)),
    "inf": ("NaN or infinity", _with(np.inf)),
    "all nan": ("NaN or infinity", lambda a: np.full(a.shape, np.nan)),
    "huge": ("number out of range", _with(1e30)),
    "negative": ("number out of range", _with(-7)),
    "huge whole": ("number out of range", _whole(2**62)),
    "negative whole": ("number out of range", _whole(-(2**40))),
    "zero": ("number out of range", lambda a: np.zeros(a.shape, a.dtype if a.dtype.kind in "iufb" else float)),
    "text": ("other type", lambda a: a.astype(str)),
    "complex": ("other type", lambda a: np.zeros(a.shape, complex)),
    "bool": ("other type", lambda a: np.zeros(a.shape, bool)),
    "bytes": ("other type", lambda a: np.zeros(a.shape, "S3")),
    "dates": ("other type", lambda a: np.zeros(a.shape, "datetime64[s]")),
    "no dates": ("other type", lambda a: np.full(a.shape, "NaT", "datetime64[h]")),
    "half": ("other type", lambda a: np.zeros(a.shape, np.float16)),
    "records": ("other type", lambda a: np.zeros(a.shape, [("a", "i4"), ("b", "f8")])),
    "empty": ("other shape", lambda a: a.reshape(-1)[:0]),
    "no rows": ("other shape", lambda a: a[:0] if a.ndim else a.reshape(1)),
    "flat": ("other shape", lambda a: a.reshape(-1)),
    "scalar": ("other shape", lambda a: a.reshape(-1)[0] if a.size else np.zeros(())),
    "deeper": ("other shape", lambda a: a[None]),
    "turned": ("other shape", lambda a: a.T),
    "shorter": ("other shape", lambda a: a[:-1] if a.ndim else a.reshape(1)),
    "doubled": ("other shape", lambda a: np.concatenate([a, a]) if a.ndim else np.stack([a, a])),
    "narrower": ("other shape", lambda a: a[..., :-1] if a.ndim else a.reshape(1, 1)),
}


def _places(tree: Any, here: tuple = ()) -> Any:
    yield here
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _places(value, (*here, key))
    elif isinstance(tree, list):
        for at in sorted({0, 1, len(tree) - 1} & set(range(len(tree)))):  # the ends stand for the rest
            yield from _places(tree[at], (*here, at))


def _changed(tree: Any, place: tuple, change: Callable | None) -> Any:
    """The tree with the value at `place` changed, or taken out where `change` is None."""
    if not place:
        return change() if change else None
    parent = tree
    for key in place[:-1]:
        parent = parent[key]
    if change is None:
        del parent[place[-1]]
    else:
        parent[place[-1]] = change()
    return tree


def _dump(tree: Any) -> bytes:
    # 10**400 is a number to JSON, but Python writes none of more than 4300 digits anyway.
    return json.dumps(tree).encode()
