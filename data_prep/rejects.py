"""The one way to say that a file cannot be used."""

import errno

# What a disk or a share may do for a while, to a file that has nothing.
_PASSING = {
  errno.EIO,
  errno.ESTALE,
  errno.ETIMEDOUT,
  errno.ENOTCONN,
  errno.EMFILE,
  errno.ENFILE,
}


class RejectError(Exception):
  """A file that is left out, with the reason that is counted.

  Attributes:
    reason: `kind:detail`, such as "dicom:truncated". It is written down and
      printed, so it never holds a value read from the file.
  """

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason


def is_passing(error: BaseException | None) -> bool:
  """Says whether an error, or what led to it, may be gone another time.

  Such a fault of reading is nobody's reason to leave a file out.

  Args:
    error: with all that its `__cause__` and `__context__` lead to.
  """
  while error is not None:
    if isinstance(error, OSError) and error.errno in _PASSING:
      return True
    error = error.__cause__ or error.__context__
  return False
