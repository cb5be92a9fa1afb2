"""One list of machines: units, links, what the config files say, and the warning about borrowed efficiencies."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from jaxsci.core.config import build
from jaxsci.core.errors import ConfigError
from jaxsci.transformer.plan.hardware import HARDWARE, Hardware, Link, hardware
from jaxsci.transformer.plan.memory import GIB
from jaxsci.transformer.utilisation import PEAKS, known_peak

FOLDER = Path(__file__).parents[3] / "conf" / "hardware"


@pytest.mark.parametrize("name", HARDWARE)
def test_every_machine_is_a_config_file(name):
    assert build(Hardware, yaml.safe_load((FOLDER / f"{name}.yaml").read_text())) == hardware(name)
    assert hardware(name).name == name


def test_every_config_file_is_a_machine():
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(HARDWARE)


def test_a_gigabyte_is_not_a_gibibyte():
    """64 GB of a GCD are 59.6 GiB."""
    assert hardware("mi250x").memory_bytes == 64_000_000_000
    assert round(hardware("mi250x").memory_bytes / GIB, 1) == 59.6


@pytest.mark.parametrize("tflops, share", [(73.5, 38.38), (69.2, 36.14), (61.2, 31.96)])
def test_the_peak_is_that_of_a_gcd(tflops, share):
    """The study's throughputs are its percentages of half a MI250X; 73.5 is rounded up by 0.005 points."""
    assert 100 * tflops * 1e12 / hardware("mi250x").peak_flops == pytest.approx(share, abs=0.006)


def test_utilisation_reads_the_same_peaks():
    named = {"mi250x": "AMD Instinct MI250X", "h100": "NVIDIA H100 80GB HBM3", "h100_pcie": "NVIDIA H100 PCIe"}
    for name, kind in named.items():
        peak = known_peak(kind)
        assert peak is not None and peak.flops == hardware(name).peak_flops
    assert len(PEAKS) == len(HARDWARE) - 1  # a CPU's peak is measured


def test_tensor_groups_use_the_link_they_fit_on():
    """On Frontier: two GCDs of a module, a node, and beyond it the network, four times slower than the node."""
    frontier = hardware("mi250x")
    assert [frontier.bandwidth(n) for n in (1, 2, 3, 4, 8, 9, 16)] == [200e9, 200e9, 50e9, 50e9, 50e9, 12.5e9, 12.5e9]


def test_borrowed_efficiencies_say_so():
    assert {name for name, machine in HARDWARE.items() if machine.fitted} == {"a100", "mi250x"}
    assert hardware("a100").caution == "" == hardware("mi250x").caution
    for name in ("mi300x", "h100", "h200", "cpu"):
        assert "fitted on a100" in hardware(name).caution and "\n" not in hardware(name).caution


def test_an_unknown_machine_lists_the_known():
    with pytest.raises(ConfigError, match="expected one of a100, cpu.*got 'mi250'.*did you mean 'mi250x'"):
        hardware("mi250")


@pytest.mark.parametrize(
    "change, says",
    [
        ({"peak_flops": 0}, "peak_flops"),
        ({"e_max": 1.2}, "e_max"),
        ({"pipe_exposed": -0.1}, "pipe_exposed"),
        ({"links": (Link(8, 1e9), Link(2, 1e9))}, "links: expected degrees that increase"),
        ({"links": (Link(16, 1e9),)}, "links: expected degrees up to node=8"),
        ({"platform": "tpu"}, "platform"),
    ],
)
def test_impossible_machines(change, says):
    with pytest.raises(ConfigError, match=says):
        replace(hardware("a100"), **change)
