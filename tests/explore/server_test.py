import socket

import pytest

from tier_jax.explore import server


def test_a_port_that_is_taken_is_refused():
  with socket.socket() as other:
    other.bind(("127.0.0.1", 0))
    other.listen()
    port = other.getsockname()[1]
    with pytest.raises(ValueError, match=f"--port {port} cannot be had"):
      server.check(port)
  server.check(port)
