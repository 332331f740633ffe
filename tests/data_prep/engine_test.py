import os
import time

import pytest

from data_prep import engine


def double(number):
  if number < 0:
    os._exit(1)  # as a decoder that crashes
  time.sleep(0.001 * (number % 3))
  return 2 * number


def crashed(number):
  return f"crashed {number}"


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_order(num_workers):
  results = engine.run(iter(range(100)), double, crashed, num_workers)
  assert list(results) == [2 * number for number in range(100)]


def test_crash_costs_one_job():
  jobs = [0, 1, -2, 3, *range(4, 60), -60, 61]
  expected = [crashed(number) if number < 0 else 2 * number for number in jobs]
  assert list(engine.run(jobs, double, crashed, 2)) == expected
