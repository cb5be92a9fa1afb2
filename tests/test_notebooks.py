"""Every notebook runs from top to bottom, is stored without outputs, and shows what its text says it shows."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))
SLOW = {
    "architecture_ensembles",
    "assimilation",
    "diffraction",
    "reduced_order",
    "stabilized_ode",
    "transformer",
    "workflow_anomalies",
}
"""20 to 35 seconds each on a cold compile cache, nearly all of it compiling."""


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Executes a notebook in an empty directory; a cell that raises fails the test with that cell's traceback."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))  # the kernel's files stay out of the home
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent))  # the kernel imports the tree that is tested
    work = tmp_path / "work"
    work.mkdir()

    def run(path: Path) -> nbformat.NotebookNode:
        place = {"metadata": {"path": str(work)}}
        notebook = NotebookClient(read(path), timeout=300, kernel_name="python3", resources=place).execute()
        left = [entry.name for entry in work.iterdir()]
        assert not left, f"{path.name} wrote {left} into the directory it ran in"
        return notebook

    return run


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def words(pattern: str, text: str) -> tuple[str, ...]:
    """The groups of the pattern's first match."""
    found = re.search(pattern, text)
    assert found, f"'{pattern}' was not printed"
    return found.groups()


def numbers(pattern: str, text: str) -> tuple[float, ...]:
    return tuple(map(float, words(pattern, text)))


def active_learning(text: str) -> None:
    time, area = numbers(r"the committee: ([\d.]+) of the time, ([\d.]+) of the AUC", text)
    assert time < 0.2 and area > 0.95
    assert min(numbers(r"committee +[\d.]+ h, AUC ([\d.]+)", text)) > 0.8  # of a useful detector, not of two poor ones


def architecture_ensembles(text: str) -> None:
    nll = {name: numbers(rf"{name} .*NLL ([\d.]+)", text)[0] for name in ("one network", "deep ensemble", "joint")}
    assert nll["joint"] < 0.9 * nll["one network"] and nll["deep ensemble"] < 0.9 * nll["one network"]
    for name in ("digits", "shuffled"):
        total, *parts = numbers(rf"{name} +entropy ([\d.]+) = \w+ ([\d.]+), \w+ ([\d.]+), \w+ ([\d.]+)", text)
        assert sum(parts) == pytest.approx(total, abs=0.02)  # each is printed with two digits
    assert numbers(r"higher entropy with probability ([\d.]+)", text)[0] > 0.9


def assimilation(text: str) -> None:
    climatology, analysis = numbers(r"climatology is off by ([\d.]+) m, the analysis by ([\d.]+)", text)
    assert analysis < climatology / 2
    (believed,) = numbers(r"believes it is off by ([\d.]+)", text)
    assert analysis / 2 < believed < 2 * analysis  # one day's error against its expected size
    for ours, same in re.findall(r"emulator +([\d.]+) m, tomorrow like today +([\d.]+) m", text):
        assert float(ours) < float(same)
    # The emulator is linear, so J is quadratic and the remainder exactly of order 2; rounding of J (about 1e-13 of its
    # value) shows in the smallest remainder, 1e-8 of it, in the fifth digit.
    orders = [float(order) for order in re.findall(r"orders: \[(.*)\]", text)[0].split()]
    assert orders == pytest.approx([2.0] * 4, abs=1e-2)


def diffraction(text: str) -> None:
    gradient, difference = numbers(r"slope of the misfit: ([-\d.]+) by the gradient, ([-\d.]+) by differences", text)
    assert gradient == pytest.approx(difference, rel=0.02) and abs(gradient) > 0.1  # float32; a step of 0.02
    assert numbers(r"(\d+) explanations cannot be told apart", text) == (4,)  # none, and the screws with g.b = 0
    assert "the truth is among them" in text
    found, truth, ties = words(r"found: (.*) \| truth: (.*) \| ties: (\d+)", text)
    assert found == truth and ties == "1"


def drift(text: str) -> None:
    alarms, false = numbers(r"alarms: (\d+) in the year, (\d+) in noise", text)
    assert alarms >= 8 and false <= alarms / 3
    error = {name: numbers(rf"{name} +median relative error +([\d.]+)", text)[0] for name in ("keep", "median")}
    assert error["median"] < error["keep"] / 2


def racing(text: str) -> None:
    left = {name: numbers(rf"{name} +log10 of what is left: +([-\d.]+)", text)[0] for name in ("Gauss-Seidel", "raced")}
    assert left["raced"] < left["Gauss-Seidel"] - 3  # a thousandth of what the default leaves
    raced, theory = numbers(r"omega raced ([\d.]+), in theory ([\d.]+)", text)
    assert raced == pytest.approx(theory, abs=0.03)  # the optimum of 80 sweeps is near that of infinitely many
    best, others = numbers(r"runs each: ([\d.]+) of the best tenth, ([\d.]+) of the others", text)
    assert best > 1.5 * others


def reduced_order(text: str) -> None:
    names = ("mean of all fields", "POD-Galerkin", "Gaussian process", "floor of 20 modes", "equivariant")
    error = {name: numbers(rf"{name} +mean squared error ([\d.e+-]+)", text)[0] for name in names}
    assert error["floor of 20 modes"] <= error["Gaussian process"] < error["mean of all fields"] / 2
    assert error["floor of 20 modes"] <= error["POD-Galerkin"] < error["mean of all fields"] / 2
    assert error["equivariant"] < error["floor of 20 modes"] / 10


def stabilized_ode(text: str) -> None:
    (coefficients,) = words(r"fourth power: \[(.*)\]", text)
    assert float(coefficients.split()[3]) == pytest.approx(-1, abs=0.01)  # of -u_xxxx
    alone, _ = numbers(r"network alone +valid for +([\d.]+), energy later on ([\d.e+-]+)", text)
    valid, late = numbers(r"with linear term +valid for +([\d.]+), energy later on ([\d.e+-]+)", text)
    (truth,) = numbers(r"truth +energy +([\d.]+)", text)
    assert valid > 3 * alone and late == pytest.approx(truth, rel=0.3)  # means over eight runs of 50 time units


def transformer(text: str) -> None:
    losses, counting = numbers(r"last losses ([\d.]+) nats, counting pairs ([\d.]+)", text)
    assert losses < counting - 0.1
    # float32 sums in another order, 20 steps of Adam, losses of about 2.
    assert numbers(r"largest difference of the losses in 20 steps: ([\d.e+-]+)", text)[0] < 1e-3
    whole, part = numbers(r"all feed-forward matrices: (\d+) numbers, on one device (\d+)", text)
    assert part == whole / 8
    fits = re.findall(r"(\d+) devices: +([\d.]+) GB each, (fits|does not fit)", text)
    assert [verdict == "fits" for _, _, verdict in fits] == [float(gb) < 80 for _, gb, _ in fits]
    assert fits[0][2] == "does not fit" and fits[-1][2] == "fits"


def workflow_anomalies(text: str) -> None:
    area = {name: numbers(rf"{name} +AUC ([\d.]+)", text)[0] for name in ("baseline", "two views")}
    assert area["two views"] > area["baseline"] > 0.7


CLAIMS: dict[str, Callable[[str], None]] = {
    claim.__name__: claim
    for claim in (
        active_learning,
        architecture_ensembles,
        assimilation,
        diffraction,
        drift,
        racing,
        reduced_order,
        stabilized_ode,
        transformer,
        workflow_anomalies,
    )
}
"""What each notebook's text says of the numbers it prints."""


def test_each_has_its_claims():
    assert {path.stem for path in NOTEBOOKS} == set(CLAIMS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None


def marked(path: Path):
    return pytest.param(path, marks=[pytest.mark.slow] if path.stem in SLOW else [], id=path.stem)


@pytest.mark.parametrize("path", [marked(path) for path in NOTEBOOKS])
def test_runs_and_shows_what_it_says(path, execute):
    notebook = execute(path)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    CLAIMS[path.stem](printed(notebook))
