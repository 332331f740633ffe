"""Headless Chromium, driven through a pipe by its own protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EXECUTABLE = next(
  filter(None, map(shutil.which, ("chromium", "google-chrome"))), None
)
_WAIT_S = 60.0
_CLICK_S = 10.0
_SWITCHES = (
  "--headless=new",
  "--remote-debugging-pipe",
  "--no-sandbox",  # it is root's, in a container
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--disable-background-networking",
  "--disable-component-update",
  "--no-first-run",
  "--no-proxy-server",
  "--force-color-profile=srgb",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
# The pipes' ends go where they are looked for.
_EXEC = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
  """One tab.

  Attributes:
    requests: addresses that the page asked for, or tried to.
    problems: what was logged to its console as an error.
  """

  def __init__(self, profile: Path, width: int, height: int):
    """Starts it, with a profile folder of its own."""
    self.requests: list[str] = []
    self.problems: list[str] = []
    self._count = 0
    self._rest = b""
    ours, theirs = os.pipe(), os.pipe()
    switches = [*_SWITCHES, f"--user-data-dir={profile}", "about:blank"]
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ours[0], theirs[1])]
    self._process = subprocess.Popen(
      [sys.executable, "-c", _EXEC, *map(str, [*ends, EXECUTABLE]), *switches],
      pass_fds=ends,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    for end in (*ends, ours[0], theirs[1]):
      os.close(end)
    self._out, self._in = ours[1], theirs[0]
    self._session = None
    targets = self._call("Target.getTargets")["targetInfos"]
    page = next(t["targetId"] for t in targets if t["type"] == "page")
    attached = self._call("Target.attachToTarget", targetId=page, flatten=True)
    self._session = attached["sessionId"]
    for domain in ("Page", "Network", "Log", "Runtime", "DOM"):
      self._call(f"{domain}.enable")
    self.resize(width, height)

  def __enter__(self) -> "Browser":
    return self

  def __exit__(self, *_) -> None:
    os.close(self._out)  # it ends with its pipe
    try:
      self._process.wait(10)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._in)

  def resize(self, width: int, height: int) -> None:
    """Sets the window's size, in pixels; a narrow one is a phone's."""
    self._call(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 600,
    )

  def go(self, url: str) -> None:
    self._call("Page.navigate", url=url)

  def run(self, script: str) -> Any:
    """Returns the value of an expression, as JSON has it."""
    answer = self._call(
      "Runtime.evaluate", expression=script, returnByValue=True
    )
    if "exceptionDetails" in answer:
      raise RuntimeError(answer["exceptionDetails"])
    return answer["result"].get("value")

  def wait(self, script: str, seconds: float = _WAIT_S) -> Any:
    """Returns the value of an expression once it is true.

    Raises:
      TimeoutError: if it is not within so many seconds.
    """
    end = time.monotonic() + seconds
    while not (value := self.run(script)):
      if time.monotonic() > end:
        text = self.run("document.body.innerText")
        typed = self.run(
          "[...document.querySelectorAll('textarea, input')].map(x => x.value)"
        )
        raise TimeoutError(f"{script}: {text[:2000]} {typed} {self.problems}")
      time.sleep(0.1)
    return value

  def choose(self, selector: str, path: Path) -> None:
    """Gives a file to an input."""
    root = self._call("DOM.getDocument")["root"]["nodeId"]
    node = self._call("DOM.querySelector", nodeId=root, selector=selector)
    self._call("DOM.setFileInputFiles", files=[str(path)], **node)

  def type(self, selector: str, text: str) -> None:
    """Puts a text in place of a field's, and sees to it that it stays."""
    field = f"document.querySelector({json.dumps(selector)})"
    end = time.monotonic() + _WAIT_S
    while True:
      self.run(f"{field}.focus(), {field}.select()")
      self._call("Input.insertText", text=text)
      time.sleep(0.3)  # as nobody clicks sooner, before the page took it
      if self.run(f"{field}.value") == text:
        return
      if time.monotonic() > end:
        raise TimeoutError(f"{selector} does not take {text!r}")

  def click(self, selector: str, until: str) -> Any:
    """Clicks, and again every few seconds, until an expression is true.

    A page that is slow to come may miss a click, as people know.
    """
    end = time.monotonic() + _WAIT_S
    while True:
      self.run(f"document.querySelector({json.dumps(selector)}).click()")
      try:
        return self.wait(until, min(_CLICK_S, end - time.monotonic()))
      except TimeoutError:
        if time.monotonic() > end:
          raise

  def picture(self, path: Path) -> None:
    """Writes a screenshot of the whole page."""
    size = self._call("Page.getLayoutMetrics")["cssContentSize"]
    shot = self._call(
      "Page.captureScreenshot",
      captureBeyondViewport=True,
      clip={**size, "x": 0, "y": 0, "scale": 1},
    )
    path.write_bytes(base64.b64decode(shot["data"]))

  def _call(self, method: str, **params: Any) -> dict[str, Any]:
    self._count += 1
    message = {"id": self._count, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._out, json.dumps(message).encode() + b"\0")
    while True:
      answer = self._read()
      if answer.get("id") == self._count:
        if "error" in answer:
          raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]
      self._note(answer)

  def _read(self) -> dict[str, Any]:
    while b"\0" not in self._rest:
      data = os.read(self._in, 1 << 16)
      if not data:
        raise RuntimeError("the browser has ended")
      self._rest += data
    message, _, self._rest = self._rest.partition(b"\0")
    return json.loads(message)

  def _note(self, event: dict[str, Any]) -> None:
    params = event.get("params", {})
    if event["method"] == "Network.requestWillBeSent":
      self.requests.append(params["request"]["url"])
    elif event["method"] == "Log.entryAdded":
      if params["entry"]["level"] == "error":
        self.problems.append(params["entry"]["text"])
    elif event["method"] == "Runtime.exceptionThrown":
      self.problems.append(str(params["exceptionDetails"]))
