"""The pages: what they say can be typed parses, what they name is there.

Every command is parsed by the program's own parser, which is left before any
work begins: flags, values, config files, keys and benchmarks are looked up for
real. A command of which nothing here knows how it is checked is an error.
"""

import contextlib
import re
import runpy
import subprocess
import tomllib

import pytest
import yaml

from data_prep import __main__ as data_prep_main
from tests import pages
from tests.programs import Programs
from tier_jax import inference
from tier_jax.evaluators import parts
from tier_jax.evaluators.benchmarks import registry

ROOT = pages.ROOT
TEXTS = {
  str(page.relative_to(ROOT)): page.read_text("utf-8") for page in pages.PAGES
}
EXAMPLES = {
  f"launch/{path.name}": pages.examples(pages.docstring(path))
  for path in sorted((ROOT / "launch").glob("*.py"))
}
COMMANDS = ("mimic_cxr", "table", "phantom", "verify", "ids", "inspect")
LANGUAGES = ("sh", "python", "text", "bibtex")
# Programs that are not ours, as far as a page may ask for them.
FOREIGN = (
  r"cd tier_jax",
  r"git (clone \.\.\. tier_jax|lfs pull)",
  r"mkdir -p [\w./]+",
  r"pre-commit install",
  r"sha256sum -c SHA256SUMS",
  r"source \.venv/bin/activate",
  r"tar -xzf [\w.]+ -C [\w./]+",
)
# What a part of a command, named in a sentence, may lack.
LACKING = re.compile(r"are required|must have a value|must be specified")
FOREIGN_FLAGS = {"config", "temp_location"}  # of a sweep's trainings, of Beam
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OURS = ("python", "make", "pip", "git", "source", "sbatch", "kubectl", "tar")


@pytest.fixture(scope="module")
def programs():
  """Our programs, whose flags are known."""
  found = Programs()
  for target in (*EXAMPLES, "data_prep"):
    with contextlib.suppress(ValueError):  # what is required is not given
      found.run(target, [])
  return found


def check(programs: Programs, words: list[str], *, whole: bool = True) -> None:
  """Checks one command.

  Args:
    programs: ours.
    words: of the command.
    whole: whether it must lack nothing.

  Raises:
    ValueError: if it would not run.
  """
  while re.match("[A-Z_]+=", words[0]):  # variables of the environment
    words = words[1:]
  text = " ".join(words).removeprefix(".venv/bin/")
  program, *rest = [words[0].removeprefix(".venv/bin/"), *words[1:]]
  if any(re.fullmatch(pattern, text) for pattern in FOREIGN):
    return
  match program, rest:
    case "python", [first, *rest]:
      if first == "-m":
        first, *rest = rest
      elif not (ROOT / first).is_file():
        raise ValueError(f"there is no {first}")
      try:
        programs.run(first, rest)
      except ValueError as error:
        if whole or not LACKING.search(str(error)):
          raise
    case "make", [_, *_]:
      check_make([word for word in rest if "=" not in word])
      variables = [word.partition("=")[0] for word in rest if "=" in word]
      for name in variables:
        if not re.search(rf"^{name} *[?:]?=", MAKEFILE, re.MULTILINE):
          raise ValueError(f"the Makefile has no {name}")
    case "pip", ["install", "-e", what]:
      extra = re.fullmatch(r"\.\[(\w+)\]", what)
      if not extra or extra[1] not in PROJECT["optional-dependencies"]:
        raise ValueError(f"no such extra as {what}")
    case (
      ("pytest", [path])
      | ("sbatch", [path, *_])
      | (
        "kubectl",
        ["apply", "-f", path],
      )
    ):
      if not (ROOT / path).exists():
        raise ValueError(f"there is no {path}")
    case _:
      raise ValueError("nothing here knows how this is checked")


def check_make(targets: list[str]) -> None:
  """Raises ValueError unless make knows the targets; nothing is made."""
  done = subprocess.run(
    ["make", "--dry-run", *targets],  # noqa: S607
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )
  if done.returncode:
    raise ValueError(done.stderr)


def failures(programs, scripts, *, whole=True):
  """Yields each command that fails, with what is wrong with it."""
  for script in scripts:
    for words in pages.commands(script):
      try:
        check(programs, words, whole=whole)
      except (ValueError, AssertionError) as error:
        yield f"{' '.join(words)}: {error}"


@pytest.mark.parametrize("page", TEXTS)
def test_commands_in_blocks_parse(programs, page):
  blocks = pages.blocks(TEXTS[page])
  assert {language for language, _ in blocks} <= set(LANGUAGES)
  scripts = [text for language, text in blocks if language == "sh"]
  assert not [*failures(programs, scripts)]


@pytest.mark.parametrize("page", TEXTS)
def test_commands_in_sentences_parse(programs, page):
  starts = tuple(f"{prefix}{x} " for x in OURS for prefix in ("", ".venv/bin/"))
  scripts = [s for s in pages.spans(TEXTS[page]) if s.startswith(starts)]
  assert not [*failures(programs, scripts, whole=False)]


@pytest.mark.parametrize("script", EXAMPLES)
def test_examples_of_help_parse(programs, script):
  assert EXAMPLES[script]
  assert not [*failures(programs, EXAMPLES[script])]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_data_prep_parse(programs, command, capsys):
  with pytest.raises(SystemExit):
    data_prep_main.main([command, "--help"])
  _, found, text = capsys.readouterr().out.partition("\nexample")
  assert found
  assert not [*failures(programs, pages.examples(text))]


@pytest.mark.parametrize(
  ("command", "words"),
  [
    ("python launch/evil.py", "no launch/evil.py"),
    ("python launch/eval.py --workdri=x", "workdri"),
    ("python launch/eval.py --benchmark=chexprt", "'chexprt' is not known"),
    ("python launch/eval.py --parts=prob", "part 'prob'"),
    ("python launch/eval.py x", "unexpected argument 'x'"),
    ("python launch/export.py --workdir=x", "output_dir"),
    ("--config.optim.layer_decai=1.", "mean --config.optim.layer_decay?"),
    ("--config.optim.layer_decay=2.", "expected 0 < decay"),
    ("python launch/train.py --config=configs/no.py --workdir=x", "no.py"),
    ("python launch/train.py --config=configs/demo.py:x --workdir=x", "'x'"),
    (
      "python launch/sweep.py --workdir=x --num_trials=2 "
      "--config=configs/demo.py --config.sed=1",
      "mean --config.seed?",
    ),
    ("python -m data_prep chexpart --source_dir=a", "chexpart"),
    ("python -m data_prep chexpert --source_dir=a", "are required"),
    (
      "python -m data_prep table --name=a --table=a --source_dir=a "
      "--output_dir=a --image_column=a",
      "expected one at least",
    ),
    ("python -m tests.nothing", "nothing"),
    ("python -m tests.scale --fast", "takes no flags"),
    ("make domo", "domo"),
    ("make PYTHOM=python3 demo", "no PYTHOM"),
    ("pip install -e '.[cuda11]'", "cuda11"),
    (".venv/bin/pytest tests/nothing", "no tests/nothing"),
    ("rm -rf /", "knows"),
  ],
)
def test_mistakes_are_found(programs, command, words):
  (failure,) = failures(programs, [command])
  assert words in failure


@pytest.mark.parametrize("page", TEXTS)
def test_flags_in_sentences_are_known(programs, page):
  every = set().union(*programs.flags.values())
  for span in pages.spans(TEXTS[page]):
    script, *_ = span.split()
    of = programs.flags.get(f"launch/{script}", every)
    for name in re.findall(r"(?:^|\s)--(\w+)", span):
      assert name in of | FOREIGN_FLAGS, f"--{name} in {span}"


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_links_are_there(page):
  files = {
    str(path.relative_to(ROOT))
    for room in pages.ROOMS
    for path in (ROOT / room).rglob("*")
    if "__pycache__" not in path.parts
  }
  ends = {
    "/".join(path.split("/")[i:])
    for path in files
    for i in range(path.count("/") + 1)
  }
  rooms = "|".join(pages.ROOMS)
  for span in pages.spans(TEXTS[page]):
    if re.fullmatch(rf"[\w/]+\.(py|sh|sbatch|yaml)|({rooms})/[\w/.]*", span):
      assert span.rstrip("/") in ends, span
  here = (ROOT / page).parent
  for link in re.findall(r"\]\(([^)\s]+)\)", pages.prose(TEXTS[page])):
    path, _, anchor = link.partition("#")
    assert (here / path).exists(), link
    if anchor:
      titles = re.findall("^#+ (.*)$", (here / path).read_text("utf-8"), re.M)
      assert anchor in {title.lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS)
def test_python_in_blocks_runs(page, tmp_path):
  for language, text in pages.blocks(TEXTS[page]):
    if language != "python":
      continue
    if "inference.load(" not in text:
      script = tmp_path / "block.py"
      script.write_text(text, "utf-8")
      runpy.run_path(str(script), run_name="page")
    for name in re.findall(r"\bmodel\.(\w+)", text):
      assert hasattr(inference.Model, name), name


def test_messages_and_reasons_are_those_of_the_code():
  strings = pages.strings()
  messages = [m for text in TEXTS.values() for m in pages.messages(text)]
  assert len(messages) > 20
  reasons = [
    span
    for text in TEXTS.values()
    for span in pages.spans(text)
    if re.fullmatch("[a-z_]+:[a-z_]+", span)
  ]
  for text in (*messages, *reasons):
    pattern = ".*".join(re.escape(part.strip()) for part in text.split("…"))
    assert any(re.search(pattern, s, re.DOTALL) for s in strings), text


def test_launch_names_every_script_benchmark_and_part():
  text = TEXTS["launch/README.md"]
  names = [path.name for path in (ROOT / "launch").iterdir() if path.is_file()]
  for name in {*names, *registry.NAMES} - {"README.md"}:
    assert f"`{name}" in text, name
  for name in parts.NAMES:
    assert name in text or name in TEXTS["data_prep/README.md"], name


def test_data_prep_names_every_dataset(programs):
  text = TEXTS["data_prep/README.md"]
  for path in (ROOT / "data_prep/datasets").glob("[a-z]*.py"):
    assert f"| `{path.stem}` |" in text, path.stem


def test_hooks_are_those_of_lint():
  config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
  (repo,) = config["repos"]
  assert repo["repo"] == "local"  # nothing is downloaded
  for hook in repo["hooks"]:
    assert hook["language"] == "system"
    program = hook["entry"].removeprefix(".venv/bin/").split()[0]
    assert re.search(rf"^\t\$\(BIN\)/{program} ", MAKEFILE, re.MULTILINE)


def test_citation_is_of_this_version():
  citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
  assert citation["version"] == PROJECT["version"]
  assert citation["license"] == PROJECT["license"]
  assert f"## {PROJECT['version']}" in TEXTS["CHANGELOG.md"]
