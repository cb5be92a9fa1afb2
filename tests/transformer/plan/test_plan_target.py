"""Devices to compile for: GPUs that are not there, fake CPUs, and what is said when there are none."""

import logging

import jax
import pytest
from cuda_compiler import needs_compiler
from jax.experimental import topologies

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.plan.target import TARGETS, devices, shrunk, target


@needs_compiler
@pytest.mark.parametrize("name, kind", [("a100", "A100"), ("h100", "H100"), ("h200", "H200")])
def test_gpus_that_are_not_there(name, kind):
    found = devices(target(name), 3072)
    assert len(found) == 3072 and len({d.id for d in found}) == 3072
    assert all(d.platform in ("gpu", "cuda") and kind in d.device_kind for d in found)
    assert jax.default_backend() == "cpu"  # asking for them starts no GPU backend


@needs_compiler
@pytest.mark.parametrize("count", [1, 6, 12])
def test_nodes_need_not_be_full(count):
    assert len(devices(TARGETS["h100"], count)) == count


def test_a_missing_compiler_is_one_line_that_says_what_to_do(monkeypatch):
    def absent(*_, **__):
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(topologies, "get_topology_desc", absent)
    with pytest.raises(ConfigError) as error:
        devices(TARGETS["h100"], 8)
    message = str(error.value)
    assert "pip install 'jaxsci[plan]'" in message and "target=cpu" in message and "\n" not in message


def test_only_the_harmless_log_lines_are_dropped(monkeypatch, caplog):
    def noisy(*_, **__):
        logger = logging.getLogger("jax._src.xla_bridge")
        for reason in ("ALREADY_EXISTS: PJRT_Api already exists for device type cuda", "no room on the disk"):
            try:
                raise RuntimeError(reason)
            except RuntimeError:
                logger.exception("Jax plugin configuration error")
        raise NotImplementedError("topology not implemented for cuda")

    monkeypatch.setattr(topologies, "get_topology_desc", noisy)
    with pytest.raises(ConfigError):
        devices(TARGETS["h100"], 8)
    assert "no room on the disk" in caplog.text and "ALREADY_EXISTS" not in caplog.text


def test_fake_cpus():
    assert devices(TARGETS["cpu"], 8) == jax.devices("cpu")[:8]
    with pytest.raises(ConfigError, match="cpu_devices=64"):
        devices(TARGETS["cpu"], 64)
    with pytest.raises(ConfigError, match="2048"):
        devices(TARGETS["cpu"], 3072)


def test_a_mesh_too_large_to_fake_is_shrunk_along_data():
    assert shrunk({"data": 6, "fsdp": 1, "pipe": 64, "tensor": 8})["data"] == 3  # 1536 devices; 6 would be 3072
    assert shrunk({"data": 2, "fsdp": 2, "pipe": 2, "tensor": 1})["data"] == 2
    with pytest.raises(ConfigError, match="2064"):
        shrunk({"data": 1, "fsdp": 2, "pipe": 129, "tensor": 8})


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'h100'"):
        target("h10")
