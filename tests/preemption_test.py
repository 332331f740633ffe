"""A SIGTERM is noticed, by all processes at the same step."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax

from tier_jax import preemption


def test_a_sigterm_is_noticed_and_the_signal_given_back():
  seen = []
  before = signal.signal(signal.SIGTERM, lambda *_: seen.append("before"))
  try:
    notice = preemption.Notice()
    assert not notice.received()
    for _ in range(2):
      os.kill(os.getpid(), signal.SIGTERM)
      assert notice.received()
    notice.close()
    assert not seen
    os.kill(os.getpid(), signal.SIGTERM)
    assert seen == ["before"]
  finally:
    signal.signal(signal.SIGTERM, before)


def test_two_processes_notice_at_the_same_call():
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
  processes = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.preemption_test", str(port), str(index)],
      cwd=Path(__file__).parents[1],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  calls = []
  for process in processes:
    output, errors = process.communicate(timeout=60)
    assert process.returncode == preemption.EXIT_CODE, errors[-3000:]
    calls.append(int(output.splitlines()[-1]))
  assert calls[0] == calls[1] > 5


def main(port: str, index: str) -> None:
  os.environ["JAX_PLATFORMS"] = "cpu"
  jax.distributed.initialize(
    f"127.0.0.1:{port}",
    num_processes=2,
    process_id=int(index),
    initialization_timeout=60,
  )
  notice = preemption.Notice()
  for call in range(1000):
    if index == "1" and call == 5:
      os.kill(os.getpid(), signal.SIGTERM)
    if notice.received():
      assert notice.received()  # and from then on
      print(call)
      notice.close()
      sys.exit(preemption.EXIT_CODE)
    time.sleep(0.01 * (1 + int(index)))  # not in step


if __name__ == "__main__":
  main(*sys.argv[1:])
