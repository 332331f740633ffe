"""What can be typed or looked up, cut out of the project's pages."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("configs", "data_prep", "launch", "tests", "tier_jax")
PAGES = sorted(
  [*ROOT.glob("*.md"), *(ROOT / room / "README.md" for room in ROOMS)]
)
# Flags that stand alone in a block are those of a training.
TRAINING = "python launch/train.py --config=configs/vit_b16.py --workdir=runs/x"

_FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
_SPAN = re.compile(r"`([^`]+)`")
_EXAMPLE = re.compile(r"^ +(python .*(?:(?<=\\)\n.*)*)", re.MULTILINE)
_OPERATORS = ("&&", "||", ";", "|", "&")


def blocks(text: str) -> list[tuple[str, str]]:
  """Returns the language and text of every fenced block."""
  return _FENCE.findall(text)


def spans(text: str) -> list[str]:
  """Returns what stands between single backticks, in one line each."""
  return [" ".join(span.split()) for span in _SPAN.findall(prose(text))]


def prose(text: str) -> str:
  """Returns a page without its fenced blocks."""
  return _FENCE.sub("", text)


def commands(script: str) -> Iterator[list[str]]:
  """Yields the words of each command, without where its output goes."""
  for line in script.replace("\\\n", " ").splitlines():
    if line.startswith("--"):
      line = f"{TRAINING} {line}"
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
      if words[-1:] == [">"]:
        words.pop()
      elif word in _OPERATORS:
        if words:
          yield words
        words = []
      else:
        words.append(word)


def examples(text: str) -> list[str]:
  """Returns the commands that are set in from the left in a docstring."""
  return _EXAMPLE.findall(text)


def docstring(path: Path) -> str:
  return ast.get_docstring(ast.parse(path.read_text("utf-8")), False) or ""


def messages(text: str) -> list[str]:
  """Returns the first cells of tables headed "message"; "…" is anything."""
  found, inside = [], False
  for line in text.splitlines():
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    inside = line.startswith("|") and (inside or cells[0] == "message")
    if inside:
      found += _SPAN.findall(cells[0])
  return found


def strings() -> set[str]:
  """Returns all strings of the code; "…" stands for what is filled in."""
  found = set()
  for room in ROOMS:
    if room == "tests":
      continue
    for path in (ROOT / room).rglob("*.py"):
      for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        found.add(_string(node))
  return found


def _string(node: ast.AST) -> str:
  match node:
    case ast.Constant(value=str(text)):
      return text
    case ast.JoinedStr(values=parts):
      return "".join(_string(part) for part in parts)
    case ast.FormattedValue():
      return "…"
    case ast.BinOp(left=left, op=ast.Add(), right=right):
      return _string(left) + _string(right)
  return ""
