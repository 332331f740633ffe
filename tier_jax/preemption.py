"""Notices that the machine is about to be taken away."""

import signal

import jax
from jax.experimental import multihost_utils

# EX_TEMPFAIL of sysexits.h: not a failure of the program, try again later.
EXIT_CODE = 75


class Notice:
  """Whether a SIGTERM, the usual notice of preemption, has come.

  The training then saves and exits with `EXIT_CODE`, so that what started it
  knows to start it again. A process alone catches the signal from here to
  `close`. Of several, `jax.distributed` catches it, tells the others and has
  all stop at the same step, within a second or two; a handler of ours in its
  place would keep the notice from it.
  """

  def __init__(self):
    """Starts to listen.

    Raises:
      ValueError: if alone, and not in the main thread, which has the signals.
    """
    self._received = False
    self._calls = 0
    self._alone = jax.process_count() == 1
    if self._alone:
      self._previous = signal.signal(signal.SIGTERM, self._catch)

  def received(self) -> bool:
    """Returns the same in all processes, which all call it every step.

    Once True it stays so.
    """
    if not self._alone and not self._received:
      self._received = multihost_utils.reached_preemption_sync_point(
        self._calls
      )
      self._calls += 1
    return self._received

  def close(self) -> None:
    """Gives the signal back."""
    if self._alone:
      # None is a handler that was not set from Python, and cannot be from here.
      signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

  def _catch(self, number, frame):
    del number, frame
    self._received = True
