"""Every loader on hundreds of broken files: a value comes out, or one line, and nothing else happens."""

import warnings

import array_files
import damage
import pytest
import text_files
from hypothesis import given, settings
from hypothesis import strategies as st

FORMATS = array_files.FORMATS | text_files.FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_file_is_read_or_refused_in_one_line(name, tmp_path, cases, ending, bounded_memory):
    form = FORMATS[name]
    path = tmp_path / form.file
    path.parent.mkdir(parents=True, exist_ok=True)
    form.write(path)
    sound = path.read_bytes()
    assert ending(form.read, path) == "read"  # or else nothing is tried

    ways = [damage.of_bytes(sound), *(of(sound) for of in form.damages)]

    @settings(
        max_examples=form.cases, derandomize=True, database=None, deadline=None, suppress_health_check=damage.UNCHECKED
    )
    @given(st.sampled_from(ways).flatmap(lambda way: way))
    def broken(one: damage.Damage) -> None:
        path.write_bytes(one.content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cases[one.kind, ending(form.read, path)] += 1

    broken()
