"""A prepared dataset on one self-contained HTML page, to be looked at.

The page fetches nothing and runs nothing: its pictures are data URIs, its style
stands in inspection.html, and every text that came from data is escaped. It
shows report texts, so it stays beside the data.
"""

import collections
import hashlib
import heapq
import html
import json
import math
import string
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import galleries, markup, survey
from tier_jax.data import records

# Label value -> colour; what is left of the bar is blank.
_VALUE_COLOURS = {1: "#0f766e", 0: "#94a3b8", -1: "#f59e0b"}

_NAMED = 12  # labels a remark
_LABELS = 40  # a table; the rest is folded away
_WORDS = 30
_EXAMPLES = 5  # ids a reason
_PAIRS = 6


def write(data_dir: Path, output: Path | None = None) -> Path:
  """Writes the page and returns its path; equal data give equal bytes.

  All records are counted, a few hundred pictures decoded.

  Args:
    data_dir: a prepared dataset.
    output: of the page, `inspect.html` in `data_dir` if None.

  Raises:
    ValueError: if `data_dir` holds no prepared dataset, or a shard is missing,
      cannot be read, or holds another number of records than stated.
  """
  output = data_dir / "inspect.html" if output is None else output
  page = _render(data_dir)
  output.parent.mkdir(parents=True, exist_ok=True)
  output.write_text(page, "utf-8")
  return output


def _render(data_dir: Path) -> str:
  manifest, digest = _read_manifest(data_dir)
  rejected = _read_rejects(data_dir)
  pairs = _read_pairs(data_dir)
  wanted = {image_id for pair in pairs for image_id in pair[:2]}
  counts = survey.take(data_dir, manifest, wanted)
  template = resources.files("data_prep") / "inspection.html"
  page = string.Template(template.read_text("utf-8"))
  settings = manifest["settings"]
  facts = {
    "version": manifest.get("version", "?"),
    "short side": f"{settings.get('short_side', '?')} pixels",
    "recipe": settings.get("recipe", "?"),
    "id key": settings.get("id_key", "?"),
    "manifest": digest[:12],
  }
  sections = (
    _cards(manifest, counts),
    _remarks(manifest, counts),
    galleries.sheets(data_dir, counts),
    galleries.outlines(data_dir, counts),
    galleries.near_duplicates(data_dir, pairs, counts.found),
    _labels(counts),
    _reports(manifest, counts),
    galleries.cases(data_dir, counts),
    galleries.pictures(data_dir, counts),
    _people(counts),
    _left_out(manifest, rejected),
    _provenance(manifest),
  )
  return page.substitute(
    title=f"Prepared data: {html.escape(str(manifest['dataset']))}",
    subtitle=(
      "What training will read, as it is stored. Tiles, texts and grey values "
      "are of records spread evenly; all other figures count every record. Ids "
      "are the first digits of keyed hashes."
    ),
    facts="".join(
      f"<li>{name} <code>{html.escape(str(value))}</code></li>"
      for name, value in facts.items()
    ),
    body="\n".join(sections),
  )


def _read_manifest(data_dir: Path) -> tuple[dict[str, Any], str]:
  try:
    text = (data_dir / "manifest.json").read_bytes()
    manifest = json.loads(text)
    if {"dataset", "settings", "splits"} <= manifest.keys():
      return manifest, hashlib.sha256(text).hexdigest()
  except (OSError, ValueError, AttributeError):
    pass
  raise ValueError(
    f"{data_dir.name!r} holds no manifest.json of a prepared dataset"
  )


def _read_rejects(data_dir: Path) -> dict[str, tuple[int, list[str]]]:
  """Returns reason -> (files, the first few of their hashed ids)."""
  found: dict[str, tuple[int, list[str]]] = {}
  lines = _read_lines(data_dir / "rejects.jsonl", reason=str, image_id=str)
  for reason, image_id in lines:
    count, ids = found.get(reason, (0, []))
    found[reason] = count + 1, [*ids, image_id][:_EXAMPLES]
  return found


def _read_pairs(data_dir: Path) -> list[galleries.Pair]:
  """Returns the images across splits that are most alike."""
  lines = _read_lines(
    data_dir / "near_duplicates.jsonl",
    distance=int,
    image_id=str,
    other_image_id=str,
  )
  return [
    (one, other, bits) for bits, one, other in heapq.nsmallest(_PAIRS, lines)
  ]


def _read_lines(path: Path, **fields: Callable) -> Iterator[tuple]:
  """Yields the fields of each line of JSON, none if there is no such file."""
  if not path.is_file():
    return
  with path.open(encoding="utf-8") as handle:
    for number, line in enumerate(handle, 1):
      try:
        entry = json.loads(line)
        values = tuple(kind(entry[name]) for name, kind in fields.items())
      except (ValueError, KeyError, TypeError):
        raise ValueError(f"line {number} of {path.name} is broken") from None
      yield values


def _cards(manifest, counts: survey.Survey) -> str:
  """The size of each split, large, and its views."""
  cards = []
  for name, split in counts.splits.items():
    entry = manifest["splits"][name]
    parts = [
      (view, split.views[view], colour)
      for view, colour in zip(records.VIEWS, markup.COLOURS, strict=True)
    ]
    legend = markup.legend((f"{view} {n:,}", c) for view, n, c in parts if n)
    cards.append(
      f'<div class="card"><h3>{html.escape(name)}</h3>'
      f'<div class="big">{split.records:,}<span>images</span></div>'
      f"<small>studies {entry.get('studies', 0):,}, patients "
      f"{entry.get('patients', 0):,}</small>"
      f"{markup.bar([(n, colour) for _, n, colour in parts], split.records)}"
      f"{legend}</div>"
    )
  return f'<h2>Splits</h2><div class="cards">{"".join(cards)}</div>'


def _remarks(manifest, counts: survey.Survey) -> str:
  """What is worth a look before the data is used."""
  splits = counts.splits
  images = sum(split.records for split in splits.values())
  studies = sum(len(split.studies) for split in splits.values())
  textless = sum(split.textless for split in splits.values())
  unknown = sum(split.views["unknown"] for split in splits.values())
  rejected = sum(manifest.get("rejects", {}).values())
  remarks = []
  if rejected:
    remarks.append(
      f"{markup.share(rejected, images + rejected)} files were rejected; the "
      "reasons stand below."
    )
  if unknown:
    remarks.append(
      f"The view of {markup.share(unknown, images)} images is unknown."
    )
  if textless:
    remarks.append(
      f"{markup.share(textless, studies)} studies have neither findings nor "
      "impression."
    )
  if counts.texts and (most := max(counts.texts.values())) > 1:
    remarks.append(
      "The most common text is that of "
      f"{markup.share(most, studies - textless)} studies with text."
    )
  if pairs := manifest.get("near_duplicates"):
    remarks.append(f"Pairs of images across splits that look alike: {pairs:,}.")
  one_sided: dict[str, list[str]] = {}
  for name, split in splits.items():
    found = sorted(
      label
      for label, values in split.labels.items()
      if not (values[1] and values[0])
    )
    if found:
      text = ", ".join(found[:_NAMED])
      if found[_NAMED:]:
        text += f" and {len(found) - _NAMED} more"
      one_sided.setdefault(text, []).append(name)
  remarks += [
    f"Labels that are never stated present, or never absent, in "
    f"{', '.join(names)}: {text}."
    for text, names in one_sided.items()
  ]
  remarks = remarks or ["Nothing stands out in the counts."]
  lines = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
  return f'<h2>Worth a look</h2><ul class="remarks">{lines}</ul>'


def _labels(counts: survey.Survey) -> str:
  """How often each label is 1, 0, -1 and blank, by split."""
  totals: collections.Counter[str] = collections.Counter()
  for split in counts.splits.values():
    for label, values in split.labels.items():
      totals[label] += values[1]
  if not totals:
    return "<h2>Labels</h2><p>The records carry none.</p>"
  rows = []
  for label in sorted(totals, key=lambda label: (-totals[label], label)):
    cells = []
    for split in counts.splits.values():
      values = split.labels.get(label, collections.Counter())
      parts = [(values[value], c) for value, c in _VALUE_COLOURS.items()]
      blank = split.records - sum(n for n, _ in parts)
      numbers = " / ".join(f"{n:,}" for n in (*(n for n, _ in parts), blank))
      cells.append(
        f"<td>{markup.bar(parts, split.records)}<small>{numbers}</small></td>"
      )
    rows.append(f"<tr><th>{html.escape(label)}</th>{''.join(cells)}</tr>")
  head = "<th>Label</th>" + "".join(
    f"<th>{html.escape(name)}</th>" for name in counts.splits
  )
  legend = markup.legend(
    (
      ("1, present", _VALUE_COLOURS[1]),
      ("0, absent", _VALUE_COLOURS[0]),
      ("-1, uncertain", _VALUE_COLOURS[-1]),
      ("blank, not stated", markup.BLANK),
    )
  )
  more = ""
  if rows[_LABELS:]:
    more = (
      f"<details><summary>{len(rows) - _LABELS} rarer labels</summary>"
      f"{markup.table(head, rows[_LABELS:])}</details>"
    )
  return (
    "<h2>Labels</h2><p>Images by what their study's label says, most often "
    "present first; the numbers are present / absent / uncertain / blank.</p>"
    f"{legend}{markup.table(head, rows[:_LABELS])}{more}"
  )


def _reports(manifest, counts: survey.Survey) -> str:
  """Lengths and words of the report sections."""
  if not counts.texts:
    return "<h2>Reports</h2><p>The records carry no text.</p>"
  rows, charts = [], []
  for section in survey.SECTIONS:
    series = []
    for (name, split), colour in zip(
      counts.splits.items(), markup.COLOURS, strict=False
    ):
      words = split.words[section]
      if not words:
        continue
      low, median, high = (
        survey.quantile(words, share) for share in (1e-9, 0.5, 0.95)
      )
      rows.append(
        f"<tr><th>{section}</th><td>{html.escape(name)}</td>"
        f"<td>{words.total():,} of {len(split.studies):,}</td><td>{low}</td>"
        f"<td>{median}</td><td>{high}</td><td>{max(words)}</td></tr>"
      )
      series.append((name, colour, words))
    if series:
      charts.append(_length_chart(f"{section.capitalize()}: words", series))
  words, gaps = counts.vocabulary.total(), counts.gaps
  once = sum(count == 1 for count in counts.vocabulary.values())
  texts = counts.texts.total()
  facts = (
    f"{words:,} words, {len(counts.vocabulary):,} different, {once:,} of them "
    "met once. Placeholders for removed words: "
    f"{markup.share(gaps, words + gaps)} tokens. Different texts: "
    f"{markup.share(len(counts.texts), texts)}."
  )
  head = "<th>Section</th><th>Split</th><th>Studies that have it</th>"
  head += "<th>Shortest</th><th>Median</th><th>95 %</th><th>Longest</th>"
  checks = ""
  if manifest.get("reports"):
    checks = (
      "<details><summary>What the checks before writing found</summary><pre>"
      f"<code>{html.escape(json.dumps(manifest['reports'], indent=2))}</code>"
      "</pre></details>"
    )
  most = counts.vocabulary.most_common(_WORDS)
  bars = "".join(
    f"<div><span>{html.escape(word)}</span>"
    f"{markup.bar([(count, markup.ACCENT)], most[0][1])}"
    f"<span>{count:,}</span></div>"
    for word, count in most
  )
  return (
    "<h2>Reports</h2><p>Lengths in words; a study counts once, however many "
    f"images it has. {facts}</p>{markup.table(head, rows)}"
    f'<div class="charts">{"".join(charts)}</div>'
    f'<div class="card"><h3>The {len(most)} most frequent words</h3>'
    f'<div class="words">{bars}</div></div>{checks}'
  )


def _length_chart(title: str, series) -> str:
  """Shares of studies over the number of words."""
  longest = max(survey.quantile(words, 0.995) for _, _, words in series)
  step = max(1, math.ceil((longest + 1) / 25))
  edges = np.arange(0, longest + 1 + step, step)
  lines = []
  for name, colour, words in series:
    lengths, weights = list(words), list(words.values())
    # What is longer than the chart is counted in its last column.
    clipped = np.minimum(lengths, edges[-1] - 1)
    heights, _ = np.histogram(clipped, edges, weights=weights)
    lines.append((name, colour, heights / words.total()))
  return markup.chart(title, edges, lines)


def _people(counts: survey.Survey) -> str:
  """Sex and age bands by split."""
  names = "".join(f"<th>{html.escape(name)}</th>" for name in counts.splits)
  tables = []
  for title, field in (("Sex", "sexes"), ("Age", "age_bands")):
    found = [getattr(split, field) for split in counts.splits.values()]
    rows = []
    for value in sorted(set().union(*found), key=_age_order):
      cells = "".join(
        f"<td>{markup.bar([(counter[value], markup.ACCENT)], counter.total())}"
        f"<small>{markup.share(counter[value], counter.total())}</small></td>"
        for counter in found
      )
      rows.append(f"<tr><th>{html.escape(value or 'unknown')}</th>{cells}</tr>")
    tables.append(markup.table(f"<th>{title}</th>{names}", rows))
  return f"<h2>Sex and age</h2><p>By images.</p>{''.join(tables)}"


def _left_out(manifest, rejected) -> str:
  """Rejects by reason with example ids, rows left out, notes."""
  rows = []
  for reason, (count, ids) in sorted(
    rejected.items(), key=lambda item: (-item[1][0], item[0])
  ):
    shown = ", ".join(
      f"<code>{html.escape(image_id[: markup.ID_DIGITS])}</code>"
      for image_id in ids
    )
    rows.append(
      f"<tr><th>{html.escape(reason)}</th><td>{count:,}</td>"
      f'<td class="wrap">{shown}</td></tr>'
    )
  parts = ["<h2>Left out</h2><h3>Rejected files</h3>"]
  if rows:
    head = "<th>Reason</th><th>Files</th><th>Image ids, for example</th>"
    parts.append(markup.table(head, rows))
  else:
    parts.append("<p>None.</p>")
  for title, key, word in (
    ("Rows of the tables left out", "filtered", "Rows"),
    ("Notes: converted, but not as the file says", "notes", "Times"),
  ):
    found = sorted(
      manifest.get(key, {}).items(), key=lambda item: (-item[1], item[0])
    )
    rows = [
      f"<tr><th>{html.escape(reason)}</th><td>{count:,}</td></tr>"
      for reason, count in found
    ]
    table = markup.table(f"<th>Reason</th><th>{word}</th>", rows)
    parts.append(f"<h3>{title}</h3>{table if rows else '<p>None.</p>'}")
  return "".join(parts)


def _provenance(manifest) -> str:
  shards = "".join(
    f"<tr><th>{html.escape(name)}</th><td>{shard['records']:,}</td>"
    f"<td><code>{html.escape(str(shard.get('sha256', '?')))}</code></td></tr>"
    for entry in manifest["splits"].values()
    for name, shard in entry["shards"].items()
  )
  settings = json.dumps(manifest["settings"], indent=2)
  head = "<th>Shard</th><th>Records</th><th>SHA-256</th>"
  return (
    "<h2>Where it comes from</h2><details><summary>Settings</summary><pre>"
    f"<code>{html.escape(settings)}</code></pre></details><details><summary>"
    f"Shards</summary>{markup.table(head, [shards])}</details>"
  )


def _age_order(value: str) -> tuple[bool, int, str]:
  """Bands by age, "0-9" before "10-19"; unknown comes last."""
  start = value.rstrip("+").partition("-")[0]
  return not value, int(start) if start.isdecimal() else 0, value
