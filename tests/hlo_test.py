"""Counts from HLO texts small enough to add up by hand."""

import jax
import jax.numpy as jnp
import pytest

from tier_jax import hlo, sharding

TEXT = """HloModule jit_step, is_scheduled=true

%fused_inner (p: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(128)} parameter(0)
  ROOT %hidden = f32[8]{0} add(%p, %p), backend_config={"estimated_cycles":"9"}
}

%async_fusion (p.1: f32[8,4]) -> f32[32,4] {
  %p.1 = f32[8,4]{1,0:T(8,128)} parameter(0)
  ROOT %ag.1 = f32[32,4]{1,0:T(8,128)} all-gather(%p.1), channel_id=7
}

%all-reduce-scatter.1 (p.2: f32[32]) -> f32[8] {
  %p.2 = f32[32]{0} parameter(0)
  %ar.1 = f32[32]{0} all-reduce(%p.2), channel_id=8, to_apply=%sum
  ROOT %slice.1 = f32[8]{0} slice(%ar.1), slice={[0:8]}
}

%inner_body (c: (s32[], f32[8])) -> (s32[], f32[8]) {
  %c = (s32[]{:T(128)}, f32[8]{0}) parameter(0)
  %x.1 = f32[8]{0} get-tuple-element(%c), index=1
  %fusion.1 = f32[8]{0:T(128)} fusion(%x.1), kind=kLoop, calls=%fused_inner, \
metadata={op_name="jit(step)/inner/add"}, backend_config={"estimated_cycles":\
"10"}
  %permute = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(\
%fusion.1), channel_id=5
  %permuted = f32[8]{0} collective-permute-done(%permute)
  ROOT %t.1 = (s32[], f32[8]{0}) tuple(%x.1, %permuted)
}

%inner_condition (c.1: (s32[], f32[8])) -> pred[] {
  %c.1 = (s32[], f32[8]{0}) parameter(0)
  %bound = s32[]{:T(128)} constant(2)
  %i = s32[] get-tuple-element(%c.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %bound), direction=LT
}

%outer_body (c.2: (s32[], f32[8])) -> (s32[], f32[8]) {
  %c.2 = (s32[], f32[8]{0}) parameter(0)
  %fusion.2 = f32[8]{0} fusion(%c.2), kind=kLoop, calls=%fused_inner, \
backend_config={"estimated_cycles":"100"}
  %kernel = bf16[16,8]{1,0} custom-call(%fusion.2), custom_call_target=\
"tpu_custom_call", metadata={op_name="jit(step)/attention"}, backend_config=\
{"custom_call_config":{"cost_estimate":{"flops":"77","transcendentals":"0",\
"bytes_accessed":"55","remote_bytes_transferred":"0"}}}
  ROOT %while.1 = (s32[], f32[8]{0}) while(%c.2), condition=%inner_condition, \
body=%inner_body
}

%outer_condition (c.3: (s32[], f32[8])) -> pred[] {
  %c.3 = (s32[], f32[8]{0}) parameter(0)
  ROOT %go = pred[] custom-call(%c.3), custom_call_target="else"
}

ENTRY %main (a: f32[8,4]) -> f32[8] {
  %a = f32[8,4]{1,0:T(8,128)} parameter(0)
  %start = (f32[8,4]{1,0}, /*index=1*/f32[32,4]{1,0}) fusion(%a), kind=kCustom,\
 calls=%async_fusion
  %fusion.3 = (f32[8]{0}, f32[32,4]{1,0}) fusion(%start), kind=kOutput, \
calls=%async_fusion, metadata={op_name="jit(step)/beside"}, backend_config={\
"estimated_cycles":"1000"}
  %scattered = f32[8]{0} fusion(%fusion.3), calls=%all-reduce-scatter.1
  %reduced = (bf16[10]{0}, f32[5]{0}) all-reduce(%fusion.3, %a), channel_id=1
  %plain = f32[8]{0} custom-call(%scattered), custom_call_target=\
"tpu_custom_call", backend_config={}
  %while.2 = (s32[], f32[8]{0}) while(%plain), condition=%outer_condition, \
body=%outer_body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %copy = f32[8]{0} copy(%while.2), backend_config={"estimated_cycles":"1"}
}
"""


def test_loops_count_as_often_as_they_run_and_fusions_by_their_own_estimate():
  counts = hlo.count(TEXT)
  # The entry, three trips of the outer body, six of the inner one.
  assert counts.cycles == 1000 + 1 + 3 * 100 + 6 * 10
  assert counts.kernels[:2] == (
    hlo.Kernel("fusion.3", "jit(step)/beside", 1000, 1),
    hlo.Kernel("fusion.2", "", 300, 3),
  )
  assert counts.unknown_loops == 0


def test_a_collective_in_many_fusions_is_one():
  assert hlo.count(TEXT).collectives == {
    "all-gather": hlo.Collective(1, 32 * 4 * 4),
    "all-reduce": hlo.Collective(1, 32 * 4 * 4 + 8 * 4 + 8 * 4 * 4),
    "collective-permute": hlo.Collective(6, 6 * (8 * 4 + 8)),
    "reduce-scatter": hlo.Collective(1, 32 * 4),
  }


def test_pallas_kernels_have_their_authors_costs_or_what_they_read_and_write():
  assert hlo.count(TEXT).custom_calls == (
    hlo.CustomCall("", 0, 8 * 4 + 8 * 4, 1),
    hlo.CustomCall("jit(step)/attention", 77, 55, 3),
  )


def test_a_loop_without_trips_is_told():
  text = TEXT.replace('{"known_trip_count":{"n":"3"}}', "{}")
  counts = hlo.count(text)
  assert counts.unknown_loops == 1
  assert counts.cycles == 1000 + 1 + 100 + 2 * 10


def test_kernels_of_all_layers_stand_together():
  kernels = [
    hlo.Kernel("a", "tower/block_0/dot", 5, 1),
    hlo.Kernel("b", "tower/block_11/dot", 6, 1),
    hlo.Kernel("c", "tower/dot", 8, 2),
    hlo.Kernel("d", "", 3, 1),
    hlo.Kernel("e", "", 4, 1),
  ]
  assert hlo.costliest(kernels, 3) == (
    hlo.Kernel("b", "tower/block_*/dot", 11, 2),
    hlo.Kernel("c", "tower/dot", 8, 2),
    hlo.Kernel("e", "", 4, 1),
  )


def test_text_without_an_entry_is_refused():
  with pytest.raises(ValueError, match="no ENTRY"):
    hlo.count("HloModule empty\n")


def test_collectives_of_a_real_program_inside_and_outside_a_loop():
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:4])
  split = sharding.batch_sharding(mesh)

  @jax.jit
  @jax.shard_map(
    mesh=mesh,
    in_specs=split.spec,
    out_specs=jax.P(),
    check_vma=False,
  )
  def f(x):
    def turn(x, _):
      order = [(i, (i + 1) % 4) for i in range(4)]
      return jax.lax.ppermute(x * 1.5, "data", order), None

    x, _ = jax.lax.scan(turn, x, length=3)
    return jax.lax.psum(jnp.sin(x), ("data", "fsdp"))

  x = jax.ShapeDtypeStruct((4 * 128,), "float32", sharding=split)
  counts = hlo.count(f.lower(x).compile().as_text())
  assert counts.collectives == {
    "all-reduce": hlo.Collective(1, 128 * 4),
    "collective-permute": hlo.Collective(3, 3 * 128 * 4),
  }
  assert counts.cycles is None  # the CPU compiler estimates none
