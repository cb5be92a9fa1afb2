"""The collective budget: which collectives the compiled step runs, inside and outside the loops, and their
bytes.
"""

from test_pipeline import compiled
from transformer_cases import GPT

from jaxsci.transformer.budget import Collective, collectives, summary
from jaxsci.transformer.parallel import ParallelConfig

MICRO, H, S = 2 * 2, GPT.width, GPT.sequence  # micro-batch of all replicas; two replicas below
ACTIVATION = 2 * S * H * 4  # bytes of one micro-batch of one replica, whole sequence, float32


def text(plan: ParallelConfig, shape: tuple, batch: int) -> str:
    return compiled(GPT, plan, shape, batch).as_text() or ""


def program(shape, **plan):
    return collectives(text(ParallelConfig(microbatches=8, **plan), shape, MICRO))


def test_one_device_runs_no_collective():
    assert program((1, 1, 1, 1)) == []


def test_1f1b_on_data_pipe_tensor():
    """(2, 1, 2, 2), l = 8, m = 8: m + 2(p - 1) = 10 ticks of l/p = 4 layers."""
    found = program((2, 1, 2, 2))
    table = summary(found)
    # Forward, recomputation and backward of two tensor-parallel regions: 3 x 2 gathers and as many scatters.
    assert table[10, 4] == {"all-gather": 6, "reduce-scatter": 6}
    # One activation and one cotangent to the neighbours; embedding: scatter forward, gather backward; head:
    # gather, scatter, the maximum and (mass, chosen logit).
    assert table[10,] == {"collective-permute": 2, "all-gather": 2, "reduce-scatter": 2, "all-reduce": 2}
    assert set(table) == {(10, 4), (10,), ()}
    assert set(table[()]) == {"all-reduce"}
    for item in found:
        if item.loops:
            assert item.bytes <= ACTIVATION  # no weight and no gradient travels inside a loop
        if item.kind == "collective-permute":
            assert item.bytes == ACTIVATION / 2  # the sequence is split over tensor = 2


def test_gpipe_on_data_pipe_tensor():
    """(2, 1, 2, 2): m + p - 1 = 9 ticks forward and backward; r = 4 micro-batches per stage enter."""
    found = program((2, 1, 2, 2), schedule="gpipe")
    table = summary(found)
    assert table[9, 4] == {"all-gather": 2 + 4, "reduce-scatter": 2 + 4}
    assert table[9,] == {"collective-permute": 2 + 2}
    assert table[4,] == {"reduce-scatter": 1, "all-gather": 1}  # embedding forward, backward
    assert set(table) == {(9, 4), (9,), (4,), ()}
    assert all(item.bytes <= ACTIVATION for item in found if item.loops)


def test_state_is_gathered_once_and_gradients_scattered_once():
    """(1, 4, 2, 1): six matrices (qkv, out, up, down, embed, position), whatever m is."""
    found = program((1, 4, 2, 1))
    once = summary(found)[()]
    assert once["all-gather"] == 6 and once["reduce-scatter"] == 6
    layer = 12 * H * H * 4
    gathered = sum(item.bytes for item in found if item.kind == "all-gather")
    tables = (128 + S) * H * 4  # V = 101 in 128 rows
    assert gathered == 4 * layer + tables  # l/p = 4 layers per stage
    assert {item.kind for item in found if item.loops} == {"collective-permute"}


def test_zero3_gathers_each_layer_where_it_runs():
    """(1, 8, 1, 1): per layer 4 gathers forward, 4 in the backward pass, 4 scatters of gradients; nothing
    stacked.
    """
    found = collectives(text(ParallelConfig(microbatches=2, zero=3), (1, 8, 1, 1), 8))
    inside = [item for item in found if len(item.loops) == 2 or item.loops == (8,)]
    assert sum(item.kind == "all-gather" for item in inside) == 8
    assert sum(item.kind == "reduce-scatter" for item in inside) == 4
    assert max(item.bytes for item in inside) == 4 * H * H * 4  # one matrix of one layer


def test_the_reader_follows_loops_calls_and_branches():
    text = """
HloModule m

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %ag = f32[8]{0} all-gather(%x), replica_groups=[2,2]<=[4], dimensions={0}
}

%cond (p: (s32[], f32[8])) -> pred[] {
}

%branch (p: f32[8]) -> f32[8] {
  %cp = (f32[4]{0}, f32[4]{0}) collective-permute-start(%p), source_target_pairs={{0,1}}
}

ENTRY %main (a: f32[4]) -> f32[8] {
  %w = (s32[], f32[8]) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"9"}}
  %c = f32[8] conditional(%i, %a, %a), branch_computations={%branch, %branch}
  %rs = f32[2]{0} reduce-scatter(%a), replica_groups={{0,1},{2,3}}, dimensions={0}, to_apply=%add
}
"""
    assert collectives(text) == [
        Collective("all-gather", 32, (9,), ((8,),), (0, 1)),
        Collective("collective-permute", 16, (), ((4,),), (0, 1)),
        Collective("collective-permute", 16, (), ((4,),), (0, 1)),
        Collective("reduce-scatter", 16, (), ((2,),), (0, 1)),
    ]


def test_the_reader_knows_which_devices_take_part_and_what_they_send():
    text = """
%async (p: f32[8]) -> f32[4] {
  %rs = f32[4]{0} reduce-scatter(%p), replica_groups=[2,2]<=[2,2]T(1,0), dimensions={0}, to_apply=%add
}

ENTRY %main (a: f32[4]) -> f32[8] {
  %start = ((f32[8]{0}), f32[4]{0}) async-start(%x), calls=%async
  %done = f32[4]{0} async-done(%start), calls=%async
  %ag = (f32[4]{0}, f32[16]{0}) all-gather-start(%a), replica_groups={{0,1,2,3}}, dimensions={0}
  %ar = f32[6]{0} all-reduce-start(%a), replica_groups=[2,2]<=[4], to_apply=%add
  %as = ((f32[6]{0}), f32[6]{0}) all-reduce-start(%a), replica_groups=mesh['data'=2,'tensor'=2] {'data'}, to_apply=%add
  %cp = ((f32[2], f32[3]), (f32[2], f32[3]), u32[], u32[]) collective-permute-start(%a, %b), source_target_pairs={{0,2}}
}
"""
    scatter, gather, reduce, again, permute = collectives(text)
    mesh = {"data": 2, "tensor": 2}
    assert scatter.group == (0, 2) and scatter.axes(mesh) == ("data",)
    assert gather.axes(mesh) == ("data", "tensor") and reduce.axes(mesh) == ("tensor",)
    # Whole arrays of 8, 16 and 6 numbers on rings of 2, 4 and 2 devices; an all-reduce goes round twice.
    assert [c.moved for c in (scatter, gather, reduce)] == [32 / 2, 64 * 3 / 4, 2 * 24 / 2]
    assert again.axes(mesh) == ("data",) and again.moved == reduce.moved
    assert permute.axes(mesh) == ("data",) and permute.moved == 4 * (2 + 3)
