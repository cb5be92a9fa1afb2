"""Every notebook runs from top to bottom, is stored without outputs, and shows what its text says it shows."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    """Executes a notebook, once; a cell that raises fails the test with that cell's traceback."""
    done: dict[Path, nbformat.NotebookNode] = {}

    def get(path: Path) -> nbformat.NotebookNode:
        if path not in done:
            folder = tmp_path_factory.mktemp("notebook")  # the kernel's files stay out of the home directory
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
                patch.setenv("IPYTHONDIR", str(folder / "ipython"))
                client = NotebookClient(
                    read(path),
                    timeout=300,
                    kernel_name="python3",
                    resources={"metadata": {"path": str(folder)}},
                )
                done[path] = client.execute()
            left = {entry.name for entry in folder.iterdir()} - {"runtime", "ipython"}
            assert not left, f"{path.name} wrote {left} into the directory it ran in"
        return done[path]

    return get


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def test_there_is_one():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, execute):
    counts = [cell.execution_count for cell in code_cells(execute(path))]
    assert counts == list(range(1, len(counts) + 1))


def test_the_assimilation_notebook_shows_what_it_says(execute):
    notebook = execute(FOLDER / "assimilation.ipynb")
    text = printed(notebook)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    climatology, analysis = map(
        float, re.findall(r"climatology is off by ([\d.]+) m, the analysis by ([\d.]+)", text)[0]
    )
    assert analysis < climatology / 2
    believed = float(re.findall(r"believes it is off by ([\d.]+)", text)[0])
    assert analysis / 2 < believed < 2 * analysis  # one day's error against its expected size
    for ours, same in re.findall(r"emulator +([\d.]+) m, tomorrow like today +([\d.]+) m", text):
        assert float(ours) < float(same)
    # The emulator is linear, so J is quadratic and the remainder exactly of order 2; rounding of J (about 1e-13 of its
    # value) shows in the smallest remainder, 1e-8 of it, in the fifth digit.
    orders = [float(order) for order in re.findall(r"orders: \[(.*)\]", text)[0].split()]
    assert orders == pytest.approx([2.0] * 4, abs=1e-2)
