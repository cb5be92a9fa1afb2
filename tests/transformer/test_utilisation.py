"""Utilisation: the published Frontier shares, the three quarters between HFU and MFU, the peaks."""

import pytest

from jaxsci.transformer.config import preset
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.utilisation import known_peak, measured_peak, recomputation, utilisation


def flops(kind: str) -> float:
    found = known_peak(kind)
    assert found is not None
    return found.flops


@pytest.mark.parametrize("tflops, share", [(73.5, 38.38), (69.2, 36.14), (61.2, 31.96)])
def test_the_study_divided_by_the_peak_of_a_gcd(tflops, share):
    assert 100 * tflops * 1e12 / flops("AMD Instinct MI250X") == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("name", ["gpt_22b", "gpt_175b", "gpt_1t"])
def test_full_recomputation_makes_mfu_three_quarters_of_hfu(name):
    plan = ParallelConfig(microbatches=64, schedule="1f1b")
    both = utilisation(preset(name), plan, 16, 1000.0, 8, 191.5e12)
    assert both.mfu / both.hfu == pytest.approx(0.75, abs=0.01)  # the head is not recomputed
    assert both.mfu_causal < both.mfu and both.hfu_causal < both.hfu


def test_doubling_devices_at_the_same_rate_halves_the_share():
    plan = ParallelConfig(remat="none")
    one, two = (utilisation(preset("nanogpt_cpu"), plan, 1, 1e5, n, 1e12) for n in (1, 2))
    assert one.mfu == pytest.approx(2 * two.mfu) and one.mfu == one.hfu


@pytest.mark.parametrize(
    "remat, schedule, pipe, expected",
    [
        ("none", "1f1b", 1, "none"),
        ("none", "1f1b", 4, "full"),
        ("selective", "gpipe", 4, "selective"),
        ("offload", "gpipe", 4, "full"),
        ("nested", "1f1b", 4, "nested"),
        ("nested", "1f1b", 1, "full"),
    ],
)
def test_what_is_recomputed(remat, schedule, pipe, expected):
    assert recomputation(ParallelConfig(remat=remat, schedule=schedule, microbatches=4), pipe) == expected


def test_peaks_by_device_kind():
    assert flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert flops("NVIDIA H100 80GB HBM3") == 989.4e12
    assert flops("NVIDIA H100 PCIe") == 756e12
    assert flops("NVIDIA H200") == 989.4e12
    assert flops("AMD Instinct MI300X") == 1307.4e12
    assert known_peak("cpu") is None
    assert measured_peak(size=256, repeats=2).flops > 1e8  # any machine of this century
