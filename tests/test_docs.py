"""What the documentation tells people to type does what it says: code runs, commands resolve, errors read as printed.

In `docs/tutorials` and `docs/howto` the blocks of a page are one session in an empty directory, from top to bottom:

- `python` is run, all blocks of a page in one namespace;
- `console` is run line by line after each `$`; the lines below a command are its output, `...` standing for any lines.

On every page, and in the README, each command in a `bash` block is composed and checked, but not run.
"""

import io
import re
import runpy
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from restored import settings_restored

from experiments import command_line, run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SESSIONS = sorted([*DOCS.glob("tutorials/*.md"), *DOCS.glob("howto/*.md")])
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md"])
SLOW = {"howto/tune", "tutorials/bayesnas", "tutorials/diffraction", "tutorials/stabilized_ode"}
"""Sessions of more than a few seconds."""

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAM = "python -m experiments.run"
PLACEHOLDER = re.compile(r"<[^<>]*>")
"""What a reader has to fill in, such as `<field.npz>`."""


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: Path, *languages: str) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = (Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in FENCE.finditer(text))
    return [block for block in found if block.language in languages]


def name(page: Path) -> str:
    return page.relative_to(ROOT).with_suffix("").as_posix().removeprefix("docs/")


def joined(text: str) -> Iterator[str]:
    """Lines of a shell, those that end with a backslash put together, comments at their end cut off."""
    for line in text.replace("\\\n", " ").splitlines():
        yield line.split("  #")[0].strip()


def typed(command: str) -> list[str]:
    """What the command prints, standard output first."""
    assert command.startswith(PROGRAM), f"a session runs experiments only, not {command!r}"
    out, err = io.StringIO(), io.StringIO()
    with settings_restored(), redirect_stdout(out), redirect_stderr(err):
        run.main(shlex.split(command.removeprefix(PROGRAM)))
    return [line.rstrip() for line in [*out.getvalue().splitlines(), *err.getvalue().splitlines()]]


def as_pattern(expected: list[str]) -> str:
    """`...` by itself stands for any number of lines, within a line for anything."""
    parts = [r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()) + r"\n" for line in expected]
    return "".join(parts).replace(re.escape("..."), ".*")


def converse(block: Block) -> None:
    """Types each command of a console block and compares what comes with what the page shows."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.replace("\\\n", " ").partition("\n")
        printed = typed(command.strip())
        pattern = as_pattern(expected.rstrip().splitlines())
        assert re.fullmatch(pattern, "\n".join([*printed, ""])), "\n".join([f"line {block.line}: {command}", *printed])


def execute(block: Block, script: Path, names: dict) -> dict:
    """Runs a block of the repository's own pages, whose lines a traceback then shows."""
    script.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
    return runpy.run_path(str(script), names)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=[pytest.mark.slow] if name(page) in SLOW else [])
        for page in SESSIONS
        if blocks(page, "python", "console")
    ],
)
def test_session(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    script = tmp_path.parent / f"{page.stem}.py"
    with settings_restored():
        for block in blocks(page, "python", "console"):
            if block.language == "console":
                converse(block)
                continue
            names = {k: v for k, v in execute(block, script, names).items() if not k.startswith("__")}


COMMANDS = sorted(
    {
        line.removeprefix("python -m ").removeprefix("experiments.run").strip()
        for page in PAGES
        for block in blocks(page, "bash", "console")
        for line in joined(block.text.replace("\n$ ", "\n").removeprefix("$ "))
        if line.startswith(PROGRAM) and block.language == "bash"
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_resolves(command, tmp_path):
    """Keys, groups, types and ranges; data files named by a placeholder need not be there."""
    arguments = shlex.split(PLACEHOLDER.sub("PLACE", command))
    if {"--help", "-h"} & set(arguments) or any(a.startswith("resume=") for a in arguments):
        return
    options, overrides = command_line.separate(arguments)
    command_line.check(overrides, multirun="-m" in options)


def test_the_reference_names_modules_that_exist():
    named = re.findall(r"^::: (\S+)$", "\n".join(page.read_text() for page in DOCS.glob("api/*.md")), re.MULTILINE)
    missing = [name for name in named if not find_module(name)]
    assert len(named) > 200 and not missing


def find_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_there_are_sessions_and_commands():
    assert len(SESSIONS) > 15
    assert len(COMMANDS) > 50
