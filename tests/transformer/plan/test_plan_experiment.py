"""`experiment=plan`: what it writes, when it says no, and that its pictures and witnesses tell the truth."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import plan, plan_compile, plan_limits, plan_measure, run
from experiments.plan_timeline import IDLE, timeline
from experiments.plan_witnesses import Witnesses
from jaxsci.core.config import build
from jaxsci.core.errors import ConfigError
from jaxsci.core.mesh import MeshConfig
from jaxsci.transformer.config import ModelConfig, preset
from jaxsci.transformer.parallel import ParallelConfig, ticks
from jaxsci.transformer.plan.compile import compile_ahead
from jaxsci.transformer.plan.footprint import footprint
from jaxsci.transformer.plan.hardware import hardware
from jaxsci.transformer.plan.memory import memory
from jaxsci.transformer.plan.recipe import Recipe, from_parallel
from jaxsci.transformer.plan.target import devices, target

MODEL = ModelConfig(4, 16, 2, sequence=16, vocabulary=256, bias=True)
PLAN = ParallelConfig(microbatches=4)
MESH = {"data": 1, "fsdp": 2, "pipe": 2, "tensor": 2}
TINY = [
    "experiment=plan",
    "compiler=cpu",
    "measure=true",
    "measured_steps=5",
    "model.layers=4",
    "model.width=16",
    "model.heads=2",
    "model.sequence=16",
    "model.vocabulary=256",
    "mesh.fsdp=2",
    "mesh.pipe=2",
    "mesh.tensor=2",
    "parallel.microbatches=4",
    "parallel.precision=float32",
    "parallel.remat=full",
]


@pytest.fixture(scope="module")
def compiled():
    return compile_ahead(MODEL, PLAN, MESH, 8, target("cpu"))


@pytest.fixture(scope="module")
def measured():
    return plan_measure.measure(MODEL, PLAN, MESH, 8, 5)


@pytest.fixture
def config():
    mesh = MeshConfig(data=1, fsdp=2, pipe=2, tensor=2)
    return plan.Config(model=MODEL, hardware=hardware("h100"), parallel=PLAN, mesh=mesh)


@pytest.fixture
def witnesses(compiled):
    recipe, needed = from_parallel(MODEL, PLAN, MESH, 8), footprint(MODEL, PLAN, MESH, 8)
    return Witnesses(MODEL, PLAN, recipe, hardware("h100"), needed, needed, compiled, None, "nobody asked", ())


# The command line.


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "run"
    assert run.main([*TINY, f"hydra.run.dir={folder}"]) == 0
    return folder


def test_the_promised_numbers_are_written(directory):
    metrics = json.loads((directory / "summary.json").read_text())["metrics"]
    promised = {"compiled_bytes_per_device", "analytic_bytes_per_device", "compile_seconds", "devices", "fits"}
    assert promised <= metrics.keys()
    assert metrics["devices"] == 8 and metrics["fits"] == 1
    assert metrics["ticks"] == ticks(PLAN, 2)
    assert metrics["flops_error"] == 0  # 256 symbols fill the rows of both devices: nothing is padded
    assert metrics["measured_argument_bytes"] == 1e9 * metrics["compiled_arguments_gb"]
    page = (directory / "report.html").read_text()
    assert "Three witnesses" in page and hardware("h100").caution in page.replace("&#x27;", "'")


REFUSED = {
    "hardware=xyz": "hardware: no 'xyz'; known: a100, cpu, h100, h100_pcie, h200, mi250x, mi300x",
    "mesh=all": "mesh.data: -1 takes what is left of devices present; give a plan its number",
    "mesh.fsdp=6": "mesh.fsdp: 6 does not divide model.width 25600; use mesh.fsdp=2 mesh.data=3",
    "mesh.tensor=7": "mesh.tensor: 7 does not divide model.heads 160; the nearest smaller value is 5",
    "mesh.member=2": "mesh.member: expected 1: a plan is for one model, got 2",
    "compiler=tpu": "compiler: unknown 'tpu'; did you mean 'cpu'?",
    "measured_steps=1": "measured_steps: expected a value between 5 and 1000, got 1",
}


@pytest.mark.parametrize("argument", REFUSED)
def test_bad_input_costs_one_line(argument, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run.main(["experiment=plan", argument]) == 2
    assert capfd.readouterr().err.strip() == f"error: {REFUSED[argument]}"
    assert not list(tmp_path.iterdir())


def test_a_model_too_large_names_the_least_number_of_devices(config):
    mesh = replace(config.mesh, fsdp=2)
    with pytest.raises(ConfigError) as refused:
        replace(config, model=preset("gpt_1t"), mesh=mesh)
    line = str(refused.value)
    least = plan_limits.least_devices(preset("gpt_1t"), Recipe(schedule="lockstep"), 80e9)
    assert least and least.devices > 8
    assert line.startswith("model: no mesh of 8 devices") and f"at least {least.devices} (" in line
    assert "\n" not in line


def test_the_least_mesh_holds_the_state_and_is_the_least():
    model, limit = preset("gpt_22b"), 40e9
    recipe = Recipe(schedule="lockstep")
    least = plan_limits.least_devices(model, recipe, limit)
    assert least is not None

    def state(pipe: int, fsdp: int, tensor: int) -> float:
        return float(memory(model, replace(recipe, batch=fsdp, pipe=pipe, fsdp=fsdp, tensor=tensor)).state.max())

    assert state(least.pipe, least.fsdp, least.tensor) == pytest.approx(least.bytes) and least.bytes <= limit
    smaller = [
        (p, f, t)
        for t in (1, 2, 4, 8, 16)
        for p in range(1, 49)
        for f in (1, 2, 3, 4, 6, 8)
        if p * f * t < least.devices
    ]
    assert len(smaller) > 20 and min(state(*mesh) for mesh in smaller) > limit


def test_a_model_that_no_mesh_holds(config):
    vast = replace(preset("gpt_1t"), width=51_200_000)
    with pytest.raises(ConfigError, match="on any mesh; give a smaller model"):
        replace(config, model=vast)


# Which compiler.


def test_another_machine_borrows_the_compiler_and_says_so(config, monkeypatch):
    monkeypatch.setattr(plan, "devices", lambda target, count: [None] * count)
    assert plan.choose_route(config) == plan.Route("h100", MESH, 8, ())
    borrowed = plan.choose_route(replace(config, hardware=hardware("mi250x")))
    assert borrowed.target == "h100" and "stand-in for AMD MI250X" in borrowed.notes[-1]


def test_without_the_wheel_a_cpu_compiles_and_the_reader_is_told(config, monkeypatch):
    def missing(target, count):
        raise ConfigError("compiler: h100 needs the CUDA compiler; pip install 'jaxsci[plan]'")

    monkeypatch.setattr(plan, "devices", missing)
    route = plan.choose_route(config)
    assert route.target == "cpu" and "pip install 'jaxsci[plan]'" in route.notes[0]
    with pytest.raises(ConfigError, match="pip install"):  # asked for by name it is not replaced
        plan.choose_route(replace(config, compiler="h100"))


def test_more_devices_than_a_process_can_fake_shrink_data(config):
    mesh = MeshConfig(data=6, fsdp=1, pipe=64, tensor=8)
    large = replace(config, model=preset("gpt_1t"), parallel=replace(PLAN, microbatches=64), mesh=mesh, compiler="cpu")
    route = plan.choose_route(large)
    assert route.axes == {"data": 3, "fsdp": 1, "pipe": 64, "tensor": 8}  # 6 -> 3: 1536 of 2048
    assert route.batch == 3 * 64  # micro-batches as large as before
    assert "mesh.data=3 instead of 6" in route.notes[0]


def test_a_process_of_its_own_answers_the_same(compiled):
    apart = plan_compile.compile_apart(MODEL, PLAN, MESH, 8, "cpu")
    same = ("argument_bytes", "flops", "devices", "traffic", "collectives", "attention")
    for name in same:
        assert getattr(apart, name) == getattr(compiled, name), name
    # Its thread pool has another size than the tests', and the buffers of some kernels depend on it.
    assert apart.temporary_bytes == pytest.approx(compiled.temporary_bytes, rel=0.05)
    assert apart.largest[0].bytes > 0


def test_the_cuda_compiler_answers_for_machines_that_are_not_there(witnesses):
    try:
        devices(target("h100"), 1)
    except ConfigError as missing:
        pytest.skip(str(missing))
    apart = plan_compile.compile_apart(MODEL, PLAN, MESH, 8, "h100")
    assert (apart.target, apart.devices, apart.upper_bound) == ("h100", 8, False)
    assert apart.argument_bytes == witnesses.compiled.argument_bytes  # the same arrays, split alike
    assert apart.flops == witnesses.flops


def test_a_refusal_crosses_the_process():
    with pytest.raises(ConfigError, match="mesh.fsdp: 3 does not divide"):
        plan_compile.compile_apart(MODEL, PLAN, MESH | {"fsdp": 3}, 12, "cpu")


# The verdict.


def test_the_verdict_flips_with_the_memory_of_the_device(witnesses):
    needed = witnesses.compiled.bytes_per_device
    for spare, fits in ((+1, True), (-1, False)):
        machine = replace(witnesses.machine, memory_bytes=needed + 1e9 + spare)
        here = replace(witnesses, machine=machine)
        assert here.fits is fits
        assert here.verdict.startswith("Fits" if fits else "Does not fit")
    bound = replace(witnesses, machine=machine, compiled=witnesses.compiled._replace(upper_bound=True))
    assert bound.verdict.startswith("May not fit") and "upper bound" in bound.verdict


def test_the_table_gives_a_reason_for_every_empty_column(witnesses, measured):
    for found in (witnesses, replace(witnesses, measured=measured, reason="")):
        for label, _, compiler, seen, *_, remark in found.rows():
            assert remark or (compiler is not None and seen is not None), label


# The measured witness.


def test_what_is_measured_agrees_with_the_program(measured, compiled):
    assert len(measured.seconds) == 5 and min(measured.seconds) > 0
    # The compiler's arguments hold the same arrays: state with its key and step, tokens and targets.
    assert measured.argument_bytes == compiled.argument_bytes
    # Random tokens, nearly as at initialisation: a loss near log V. Seven steps of Adam at 1e-3 move it little.
    assert measured.loss == pytest.approx(np.log(MODEL.vocabulary), rel=0.05)


def test_nothing_is_run_unasked_where_it_does_not_belong():
    here, cpu = jax.device_count(), hardware("cpu")
    assert not plan_measure.reason_not_to(cpu, here, 1e6, 1e6, None)
    assert "measure=false" in plan_measure.reason_not_to(cpu, here, 1e6, 1e6, False)
    assert f"{here} here" in plan_measure.reason_not_to(cpu, here + 1, 1e6, 1e6, None)
    assert "the plan is for" in plan_measure.reason_not_to(hardware("h100"), here, 1e6, 1e6, None)
    assert "more than" in plan_measure.reason_not_to(cpu, here, 1e15, 1e6, None)
    assert "minutes" in plan_measure.reason_not_to(cpu, here, 1e6, 1e20, None)
    with pytest.raises(ConfigError, match=f"needs {here + 1} devices"):
        plan_measure.reason_not_to(cpu, here + 1, 1e6, 1e6, True)


# The pipeline's picture.


@pytest.mark.parametrize("pipe", [1, 2, 4])
@pytest.mark.parametrize("schedule, virtual", [("1f1b", 1), ("gpipe", 1), ("gpipe", 2)])
def test_the_picture_has_the_turns_of_the_program(schedule, virtual, pipe):
    virtual = virtual if pipe > 1 else 1
    settings = ParallelConfig(microbatches=8, schedule=schedule, virtual=virtual)
    forward, backward, _ = timeline(settings, pipe)
    assert forward.shape == backward.shape == (pipe, ticks(settings, pipe))
    for work in (forward, backward):
        for stage in work:  # every stage does every micro-batch once per chunk
            counts = np.bincount(stage[stage != IDLE], minlength=8)
            np.testing.assert_array_equal(counts, virtual)
    idle = (forward == IDLE).mean()
    assert idle == pytest.approx(1 - virtual * 8 / ticks(settings, pipe))  # the bubble


def test_no_micro_batch_arrives_before_it_was_sent():
    forward, backward, _ = timeline(ParallelConfig(microbatches=8), 4)

    def when(work, stage, q):
        return int(np.flatnonzero(work[stage] == q)[0])

    for q in range(8):
        for stage in range(1, 4):
            assert when(forward, stage, q) == when(forward, stage - 1, q) + 1
            assert when(backward, stage - 1, q) == when(backward, stage, q) + 1
        assert when(backward, 3, q) == when(forward, 3, q)  # the last stage turns round within a tick


def test_the_config_can_be_built_from_yaml():
    saved = {"model": {"layers": 2, "width": 8, "heads": 2, "sequence": 8}, "mesh": {"data": 2}}
    machine = {"name": "x", "title": "x", "peak_flops": 1e12, "memory_bytes": 1e9, "memory_bandwidth": 1e9, "node": 1}
    machine |= {"links": [], "network_bandwidth": 1e9, "e_max": 0.5, "x0": 1, "fitted_on": "x", "platform": "cuda"}
    found = build(plan.Config, saved | {"hardware": machine})
    assert found.axes == {"data": 2, "fsdp": 1, "pipe": 1, "tensor": 1} and found.sequences == 2
