"""The page in a browser, and what leaves it."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import browser, random_runs, trainings
from tests.evaluators import datasets

ROOT = Path(__file__).parents[2]
REPORT = "<b id=hostile>Nodule</b> in the left lung."
# What would open the page to others, if it were heeded.
ENVIRONMENT = {
  "GRADIO_ALLOWED_PATHS": "/",
  "GRADIO_ROOT_PATH": "/elsewhere",
  "GRADIO_SERVER_NAME": "0.0.0.0",  # noqa: S104
  "GRADIO_SHARE": "True",
  "HTTP_PROXY": "http://127.0.0.1:9",
}

pytest.importorskip("gradio")


@pytest.fixture
def served(tmp_path, tmp_path_factory):
  """Starts the page; yields its port, and ends it as a terminal does."""
  data = tmp_path / "data"
  rows = [
    datasets.record(i, level=30 * i, findings=f"{REPORT} {i}") for i in range(4)
  ]
  datasets.write(data / "mimic_cxr", {"test": rows})
  workdir = random_runs.write(tmp_path / "run")
  (tmp_path / "tmp").mkdir()
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  process = subprocess.Popen(
    [
      *(sys.executable, "launch/explore.py", f"--workdir={workdir}"),
      *(f"--data_dir={data}", f"--port={port}"),
    ],
    cwd=ROOT,
    env={
      **os.environ,
      **trainings.compile_environment(tmp_path_factory),
      **ENVIRONMENT,
      "TMPDIR": str(tmp_path / "tmp"),
    },
    stdout=subprocess.PIPE,
    stderr=(tmp_path / "stderr").open("w"),
    text=True,
  )
  assert process.stdout is not None
  line = process.stdout.readline()
  said = (tmp_path / "stderr").read_text()
  assert line == f"open http://127.0.0.1:{port}/ (Ctrl-C ends it)\n", said
  yield port
  process.send_signal(signal.SIGTERM)
  assert process.wait(30) == 0
  assert process.stdout.read() == ""
  assert "Traceback" not in (tmp_path / "stderr").read_text()
  assert not list((tmp_path / "tmp").iterdir())  # and nothing stays


def _files(tmp_path):
  return [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]


@pytest.mark.skipif(not browser.EXECUTABLE, reason="there is no Chromium")
def test_the_page(served, tmp_path):
  url = f"http://127.0.0.1:{served}/"
  rng = np.random.default_rng(0)
  image, bad = tmp_path / "a.png", tmp_path / "bad.dcm"
  pixels = rng.integers(256, size=(60, 50), dtype=np.uint8)
  Image.fromarray(pixels).save(image)
  bad.write_bytes(b"no image, but the NAME of a patient")
  source = "(document.querySelector('#viewer img') || {}).src"
  with browser.Browser(tmp_path / "profile", 1280, 900) as tab:
    tab.go(url)
    tab.wait("!!document.querySelector('#file input[type=file]')")
    assert "not for clinical use" in tab.run("document.body.innerText")
    tab.choose("#file input[type=file]", image)
    first = tab.wait(source)
    assert tab.run("document.querySelector('#said').innerText") == "a.png"
    near = tab.wait("document.querySelector('#near').innerText")
    assert near.count(REPORT) == 8
    assert not tab.run("document.querySelector('#hostile')")
    scores = tab.run("document.querySelector('#scores').innerText")
    assert "Pleural Effusion" in scores and "%" in scores
    # Another phrase has another map.
    tab.type("#phrase :is(input, textarea)", "The lungs are clear.")
    second = tab.click("#show", f"{source} != '{first}' && {source}")
    caption = "document.querySelector('#viewer figcaption').innerText"
    assert "The lungs are clear." in tab.run(caption)
    # So has another window, and the findings can be one's own.
    tab.type("#width input[type=number]", "80")
    tab.run("document.activeElement.blur()")
    assert tab.wait(f"{source} != '{second}' && {source}") != first
    tab.run("document.querySelector('#mine button').click()")
    tab.wait("(document.querySelector('#findings textarea') || {}).value")
    tab.type("#findings textarea", "Mine\n+ Mine is here.\n- It is not.")
    own = "document.querySelector('#scores').innerText.includes('Mine')"
    tab.click("#again", own)
    tab.type("#findings textarea", "+ None")
    tab.click("#again", "!!document.querySelector('#scores .bad')")
    tab.resize(390, 844)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    tab.resize(1280, 900)
    # What was read is gone, and what cannot be read is said to be so.
    assert not [f for f in _files(tmp_path) if f.read_bytes()[:4] == b"\x89PNG"]
    tab.choose("#file input[type=file]", bad)
    said = tab.wait("(document.querySelector('#said .bad') || {}).innerText")
    assert "bad.dcm: it cannot be read (dicom:not_dicom)" in said
    assert "NAME" not in tab.run("document.body.innerText")
    tab.wait("!document.querySelector('#viewer img')")
    own = (url, "data:", "blob:", "about:")
    assert [x for x in tab.requests if not x.startswith(own)] == []
    assert tab.problems == []
  assert not [f for f in _files(tmp_path) if b"NAME" in f.read_bytes()]
  _assert_closed(served)


def _assert_closed(port):
  """Asserts that only this machine's own page is answered."""
  with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    page = answer.read().decode()
  assert "fonts.googleapis" not in page
  assert _status(port, "/", Host="other.example") == 400
  assert _status(port, "/gradio_api/file=/etc/hostname") in (403, 404)
  assert _status(port, "/monitoring") in (403, 404)
  other = socket.gethostbyname(socket.gethostname())
  if not other.startswith("127."):
    with contextlib.closing(socket.socket()) as client:
      assert client.connect_ex((other, port)) != 0


def _status(port, path, **headers):
  with contextlib.closing(
    http.client.HTTPConnection("127.0.0.1", port)
  ) as link:
    link.request("GET", path, headers=headers)
    return link.getresponse().status
