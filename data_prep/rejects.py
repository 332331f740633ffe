"""The one way to say that a file cannot be used."""


class RejectError(Exception):
  """A file that is left out, with the reason that is counted.

  Attributes:
    reason: `kind:detail`, such as "dicom:truncated". It is written down and
      printed, so it never holds a value read from the file.
  """

  def __init__(self, reason: str):
    super().__init__(reason)
    self.reason = reason
