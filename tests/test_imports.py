"""Holds the rules of docs/architecture.md that the source shows: who imports whom, and what nobody does."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 500

# The table 'Who may import whom'. Rooms not built yet are listed, so that they are born with their rule.
MAY_IMPORT = {
    "core": set(),
    "dynamics": {"core"},
    "emulators": {"core", "dynamics"},
    "assimilation": {"core", "dynamics", "emulators"},
    "transformer": {"core"},
    "bayesnas": {"core"},
    "racing": {"core"},
    "drift": {"core"},
    "active": {"core"},
    "workflows": {"core", "active"},
    "diffraction": {"core", "active"},
}
FLAX_ROOM = "transformer"
HYDRA_FILE = "jaxsci/racing/sweeper.py"
START_A_BACKEND_ON_IMPORT = {"blackjax", "evosax"}


def library() -> list[Path]:
    return sorted((ROOT / "jaxsci").rglob("*.py"))


def everything() -> list[Path]:
    folders = ("jaxsci", "experiments", "conf", "tests")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str | None:
    """The room a library file belongs to; `None` for `jaxsci/__init__.py`, the front door."""
    parts = path.relative_to(ROOT).parts
    return parts[1] if len(parts) > 2 else None


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it, none of them relative; `from a import b` gives `a.b`."""
    package = list(path.relative_to(ROOT).with_suffix("").parts)[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_rooms(path: Path) -> set[str]:
    """The rooms a file imports from; an import through the front door counts as `jaxsci`."""
    modules = [name.split(".") for name in imports(path) if name.split(".")[0] == "jaxsci"]
    return {parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "jaxsci" for parts in modules}


def calls(path: Path) -> Iterator[str]:
    """The dotted name of everything a file calls by name, such as `yaml.load`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_every_room_has_its_rule():
    built = {path.parent.name for path in (ROOT / "jaxsci").glob("*/__init__.py")}
    assert built <= MAY_IMPORT.keys()
    assert "core" in built


def test_the_rules_are_those_of_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    written = {}
    for left, right in rows:
        rooms = {name for name in MAY_IMPORT if f"`{name}`" in left}
        if rooms and not any(mark in left for mark in (".", "(")):  # not a row of the table of core contracts
            written |= {name: {other for other in MAY_IMPORT if f"`{other}`" in right} for name in rooms}
    assert written == MAY_IMPORT


@pytest.mark.parametrize("path", library(), ids=named)
def test_a_room_imports_only_what_it_may(path):
    here = room(path)
    if here is not None:
        assert imported_rooms(path) <= MAY_IMPORT[here] | {here}


@pytest.mark.parametrize("path", [*library(), *sorted((ROOT / "conf").rglob("*.py"))], ids=named)
def test_nobody_imports_experiments(path):
    assert "experiments" not in {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", library(), ids=named)
def test_heavy_guests_stay_in_their_room(path):
    packages = {name.split(".")[0] for name in imports(path)}
    assert room(path) == FLAX_ROOM or "flax" not in packages
    assert named(path) == HYDRA_FILE or not packages & {"hydra", "omegaconf"}
    assert not packages & {
        "torch",
        "tensorflow",
        "tensorflow_probability",
        "distrax",
        "haliax",
        "jaxopt",
        "jraph",
    }


@pytest.mark.parametrize("path", library(), ids=named)
def test_what_starts_a_backend_is_imported_late(path):
    at_the_top = {
        name.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
        for node in tree(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert not at_the_top & START_A_BACKEND_ON_IMPORT


@pytest.mark.parametrize("path", [p for p in library() if "data" not in p.parts], ids=named)
def test_the_library_does_not_print(path):
    """Packaged data may hold programs, such as one to be tuned, whose answer is what they print."""
    assert not set(calls(path)) & {"print", "jax.debug.print", "breakpoint"}


@pytest.mark.parametrize("path", everything(), ids=named)
def test_no_file_is_too_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_this_test_can_fail(tmp_path, monkeypatch):
    """The readers above find what they are for, in a file that breaks every rule."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "jaxsci" / "drift" / "bad.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import jaxsci\nimport hydra.core\nfrom ..racing import race\nfrom jaxsci import bayesnas\n"
        "def f():\n    from jaxsci.transformer.model import Model\n    return yaml.load(eval('1'))\n"
    )
    assert imported_rooms(path) == {"jaxsci", "racing", "bayesnas", "transformer"}
    assert "hydra.core" in set(imports(path))
    assert {"yaml.load", "eval"} <= set(calls(path))


# What importing does, seen from a fresh interpreter.

PROBE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from jax._src import xla_bridge
print(sorted(xla_bridge._backends))
import jax
jax.devices()
print(sorted(xla_bridge._backends))
"""


def started_backends(*modules: str) -> list[str]:
    """The backends started after importing `modules`, then after asking for the devices."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *modules],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:2]


@pytest.mark.parametrize("all_modules", [False, True], ids=["import jaxsci", "every module"])
def test_importing_starts_no_backend(all_modules):
    modules = ["jaxsci"]
    if all_modules:
        modules += [named(path)[:-3].replace("/", ".").removesuffix(".__init__") for path in library()]
    # The second list shows that the probe would have seen a backend.
    assert started_backends(*modules) == ["[]", "['cpu']"]
