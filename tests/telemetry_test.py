"""Rates by a clock of our own."""

import jax
import pytest

from tier_jax import flops, telemetry


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


@pytest.fixture
def known_peak(monkeypatch):
  kind = jax.devices()[0].device_kind
  monkeypatch.setitem(flops.PEAKS, kind, 1e6)


def test_rates_are_of_the_time_that_was_not_paused(known_peak):
  clock = Clock()
  meter = telemetry.Meter(8, 4_000_000, 2, clock)
  clock.now += 50  # compiling
  meter.start(1, waited=3.0)
  clock.now += 6
  meter.pause()
  clock.now += 30  # evaluating
  meter.resume()
  clock.now += 14
  scalars = meter.scalars(5, waited=8.0)
  assert scalars["train/step_seconds"] == 5.0  # 20 s, 4 steps
  assert scalars["train/pairs_per_second"] == 8 / 5
  assert scalars["train/input_wait"] == 5 / 20
  # Two devices do 2e6 a second, and were asked for 4e6 in 5 s.
  assert scalars["train/mfu"] == pytest.approx(0.4)
  clock.now += 2
  scalars = meter.scalars(7, waited=8.0)  # since the last report
  assert scalars["train/step_seconds"] == 1.0
  assert scalars["train/input_wait"] == 0.0


def test_without_a_step_there_are_no_rates_and_without_a_peak_no_mfu():
  clock = Clock()
  meter = telemetry.Meter(8, 4_000_000, 2, clock)
  meter.start(3, waited=0.0)
  clock.now += 1
  assert "train/step_seconds" not in meter.scalars(3, waited=0.0)
  clock.now += 1
  scalars = meter.scalars(4, waited=0.0)
  assert scalars["train/step_seconds"] == 1.0
  assert "train/mfu" not in scalars


def test_memory_is_of_this_process_and_of_its_fullest_device(monkeypatch):
  class Device:
    def __init__(self, stats):
      self.memory_stats = lambda: stats

  meter = telemetry.Meter(8, 1, 1)
  before = meter.scalars(0, 0.0)
  assert "train/device_memory_gib" not in before  # a CPU does not count
  ballast = b"\1" * 2**28
  grown = meter.scalars(0, 0.0)["train/host_memory_gib"]
  # The process's other threads take and give back memory meanwhile.
  assert grown - before["train/host_memory_gib"] == pytest.approx(0.25, abs=0.1)
  del ballast
  peaks = [{"peak_bytes_in_use": n * 2**30} for n in (3, 5)]
  monkeypatch.setattr(
    jax, "local_devices", lambda: [Device(None), *map(Device, peaks)]
  )
  assert meter.scalars(0, 0.0)["train/device_memory_gib"] == 5.0
