"""Our own programs, run as far as they parse their flags."""

import argparse
import contextlib
import dataclasses
import io
import re
import runpy
import sys
import warnings
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from absl import app, flags

from data_prep.datasets import table
from tests import pages
from tier_jax import config as config_lib
from tier_jax.evaluators import parts
from tier_jax.evaluators.benchmarks import registry

FLAGS = flags.FLAGS


class Parsed(BaseException):
  """Raised where a program would begin to work; its args are left to others."""


class Programs:
  """Parses command lines as the programs do: for real, and no further.

  Attributes:
    flags: the names of all flags, by script or module that was run.
  """

  def __init__(self):
    self.flags: dict[str, set[str]] = {}
    self._target = ""
    self._parse_args = argparse.ArgumentParser.parse_args

  def run(self, target: str, arguments: list[str]) -> None:
    """Parses a command line.

    Args:
      target: a script, relative to the root, or a module.
      arguments: what follows it.

    Raises:
      ValueError: if it is not as the program wants it.
    """
    if not re.search(r"parse_args\(|app\.run\(", _source(target)):
      if arguments:
        raise ValueError(f"{target} takes no flags")
      return
    rest = self._start(target, arguments)
    if rest:  # a sweep's, for its trainings
      self._start("launch/train.py", ["--workdir=x", *rest])

  def _start(self, target, arguments):
    """Runs a program until it has parsed; returns what it leaves to others."""
    with _others_set_aside():
      return self._start_alone(target, arguments)

  def _start_alone(self, target, arguments):
    self._target, before = target, set(FLAGS)
    start = runpy.run_path if target.endswith(".py") else runpy.run_module
    programs, printed = self, io.StringIO()

    def parse_args(parser, args=None, namespace=None):
      programs._argparse(parser, args, namespace)

    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
      patch.chdir(pages.ROOT)
      patch.setattr(sys, "argv", [target, *arguments])
      patch.setattr(app, "run", self._absl)
      patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
      stack.enter_context(contextlib.redirect_stdout(printed))
      stack.enter_context(contextlib.redirect_stderr(printed))
      # A module that was imported before is run a second time.
      stack.enter_context(warnings.catch_warnings(action="ignore"))
      try:
        start(target, run_name="__main__")
      except Parsed as parsed:
        return parsed.args
      except SystemExit as error:
        if not error.code:  # --help
          return ()
        raise ValueError(f"{printed.getvalue()} {error.code}") from error
      except (flags.Error, OSError) as error:
        raise ValueError(str(error)) from error
      finally:
        for name in set(FLAGS) - before:
          if self._owns(name):
            delattr(FLAGS, name)
    raise AssertionError(f"{target} ended and parsed nothing")

  def _owns(self, name):
    """Whether a flag is the program's, or of a key of its config."""
    owner = FLAGS.find_module_defining_flag(name)
    return owner in (self._target, "absl.flags._flag")

  def _absl(self, main, argv=None, flags_parser=None):
    self.flags[self._target] = {name for name in FLAGS if self._owns(name)}
    if "--help" in sys.argv:
      raise Parsed
    rest = (flags_parser or FLAGS)(sys.argv)[1:]
    if rest and self._target != "launch/sweep.py":
      raise ValueError(f"unexpected argument {rest[0]!r}")
    values = {name: FLAGS[name].value for name in self.flags[self._target]}
    if values.get("config") is not None:
      config_lib.build(values["config"])
    _check_names(values)
    raise Parsed(*rest)

  def _argparse(self, parser, args, namespace):
    self.flags.setdefault(self._target, set()).update(_options(parser))
    values = vars(self._parse_args(parser, args, namespace))
    _check_names(values)
    if "split_fractions" in values:
      fields = dataclasses.fields(table.TableOptions)
      table.TableOptions(**{field.name: values[field.name] for field in fields})
    raise Parsed


@contextlib.contextmanager
def _others_set_aside() -> Iterator[None]:
  """Takes away the flags of programs that other tests imported meanwhile."""
  aside = []
  for name in list(FLAGS):
    owner = FLAGS.find_module_defining_flag(name)
    if owner.startswith("launch."):
      aside.append((owner, name, FLAGS[name]))
      delattr(FLAGS, name)
  yield
  for owner, name, flag in aside:
    FLAGS[name] = flag
    FLAGS.register_flag_by_module(owner, flag)


def _source(target: str) -> str:
  if target.endswith(".py"):
    return (pages.ROOT / target).read_text("utf-8")
  spec = util.find_spec(target)
  if spec and spec.submodule_search_locations is not None:
    spec = util.find_spec(f"{target}.__main__")
  if not spec or not spec.origin:
    raise ValueError(f"there is no module {target}")
  return Path(spec.origin).read_text("utf-8")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
  for action in parser._actions:
    yield from (name.lstrip("-") for name in action.option_strings)
    if isinstance(action, argparse._SubParsersAction):
      for command in action.choices.values():
        yield from _options(command)


def _check_names(values: dict[str, Any]) -> None:
  """Looks up the benchmarks and parts that flags name."""
  named = values.get("benchmark") or []
  for name in [named] if isinstance(named, str) else named:
    registry.find(name)
  for name in values.get("parts") or []:
    if name not in parts.NAMES:
      raise ValueError(f"part {name!r} is none of {parts.NAMES}")
