"""File systems of a test's own: small, full or read-only."""

import os
import shutil
import subprocess

import pytest

IN_NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")


def need(mount: str) -> None:
  """Skips the test unless the command `mount` works in a namespace here."""
  if shutil.which("unshare") is None:
    pytest.skip("there is no unshare to mount with")
  tried = subprocess.run(
    [*IN_NAMESPACE, mount],
    env=dict(os.environ),
    capture_output=True,
    text=True,
    check=False,
  )
  if tried.returncode:
    pytest.skip(f"mounting is not allowed: {tried.stderr.strip()}")
