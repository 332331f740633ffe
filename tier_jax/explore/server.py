"""Serves the page to this machine's own browser, and lets nothing out of it."""

import contextlib
import importlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from tier_jax.evaluators import prompts
from tier_jax.explore import explorer

_HOST = "127.0.0.1"
_MAX_FILE = "512mb"
# The browser itself refuses to fetch, or send, anything elsewhere.
_HEADERS = (
  (
    b"content-security-policy",
    b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    b"frame-ancestors 'none'; form-action 'none'; base-uri 'self'",
  ),
  (b"referrer-policy", b"no-referrer"),
  (b"cache-control", b"no-store"),
)
_ENVIRONMENT = {
  "GRADIO_ANALYTICS_ENABLED": "False",
  "HF_HUB_DISABLE_TELEMETRY": "1",
  "HF_HUB_OFFLINE": "1",
  # Gradio looks whether it serves: not by way of a proxy.
  "NO_PROXY": _HOST,
  "no_proxy": _HOST,
}


def check(port: int) -> None:
  """Checks that a port is free, before a model is loaded for it.

  Raises:
    ValueError: if it is not.
  """
  with socket.socket() as trial:
    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      trial.bind((_HOST, port))
    except OSError as error:
      raise ValueError(
        f"--port {port} cannot be had ({error.strerror}), expected a free one"
      ) from error


def serve(
  explore: explorer.Explorer, asked: Mapping[str, prompts.Prompts], port: int
) -> None:
  """Serves until it is interrupted or terminated.

  Files that are dropped lie in a folder of the user's own until they are read,
  and the folder goes at the end.

  Args:
    explore: answers.
    asked: the findings that the page begins with.
    port: to listen on, of the loopback address alone.

  Raises:
    OSError: if the port was taken meanwhile.
  """
  with _alone():
    # It reads the environment when it is imported.
    page = importlib.import_module("tier_jax.explore.page")
    blocks = page.build(explore, asked)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
      signal.signal(number, lambda *_: ended.set())
    _, url, _ = blocks.launch(
      server_name=_HOST,
      server_port=port,
      share=False,
      inbrowser=False,
      prevent_thread_lock=True,
      quiet=True,
      footer_links=[],
      run_history=False,
      enable_monitoring=False,
      ssr_mode=False,
      pwa=False,
      mcp_server=False,
      max_file_size=_MAX_FILE,
      state_session_capacity=16,
      app_kwargs={"middleware": _middleware()},
      **page.STYLE,
    )
    print(f"open {url} (Ctrl-C ends it)", flush=True)
    ended.wait()
    blocks.close(verbose=False)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
  """Sets the environment, with a folder for files that are dropped."""
  for name in [name for name in os.environ if name.startswith("GRADIO_")]:
    del os.environ[name]  # they open addresses, folders and tunnels
  os.environ.update(_ENVIRONMENT)
  with tempfile.TemporaryDirectory(prefix="tier_jax_explore_") as folder:
    os.environ["GRADIO_TEMP_DIR"] = folder
    yield


def _middleware() -> list[Any]:
  from starlette.middleware import Middleware
  from starlette.middleware.trustedhost import TrustedHostMiddleware

  return [
    # Another site's name that leads here would make it the page's own.
    Middleware(TrustedHostMiddleware, allowed_hosts=[_HOST, "localhost"]),
    Middleware(_Headers),
  ]


class _Headers:
  """Adds `_HEADERS` to every answer."""

  def __init__(self, app: Any):
    self._app = app

  async def __call__(self, scope, receive, send) -> None:
    async def send_more(message):
      if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], *_HEADERS]
      await send(message)

    await self._app(scope, receive, send_more)
