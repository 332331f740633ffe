"""Grounding: how well maps find a finding, beside two baselines."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tier_jax.evaluators import figures, grounding_scores, protocols, wording
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

_METRICS = {
  key: wording.capital(title) for key, title in wording.GROUNDING.items()
}
_INTRO = (
  "<p>Pointing game: how often the brightest point lies inside the true "
  "extent. CNR: contrast of inside to outside over their noise; below 0 the "
  "map shuns the extent. mIoU: overlap, mean over thresholds; Dice: overlap "
  "at one. The <b>location prior</b> ignores the image and always points at "
  "the finding's most common place, <b>by phrase</b> at that of what the "
  "phrase says, side and all; <b>random</b> points anywhere. A map that does "
  "not beat the prior has not shown that it looks at the image.</p>"
)
_BASELINES = {
  "prior": "location prior",
  "prior_of_phrase": "prior by phrase",
  "random": "random",
}
_COMPARED = {
  "against_prior": "the map for the phrase",
  "token_against_prior": "the mean map of its tokens",
  "contrast_against_prior": "the map less that of the finding's denial",
}
_WORDS = {
  "beaten": "beats the location prior in",
  "unsure": "does not beat the location prior: inconclusive in",
  "lost": "is worse than the location prior in",
}


def render(
  runs: Sequence[runs_lib.Run], deltas: Mapping[str, Mapping[str, Any]]
) -> list[markup.Section]:
  """Returns a section, with a part a dataset; none without grounding.

  Args:
    runs: at least one.
    deltas: as `differences.of_runs` gives them, or none.
  """
  parts = [run.metrics.get("grounding") or {} for run in runs]
  body = []
  for name in dict.fromkeys(name for part in parts for name in part):
    entries = [
      (run, part[name])
      for run, part in zip(runs, parts, strict=True)
      if part.get(name)
    ]
    if entries:
      body.append(_dataset(name, entries, runs, deltas))
  if not body:
    return []
  return [markup.Section("Grounding", _INTRO + "".join(body))]


def _dataset(name, entries, runs, deltas) -> str:
  first = entries[0][1]
  about = f"Split {markup.text(first['split'])}"
  if first.get("random"):
    about += f", {first['random']['rows']} findings outlined"
  if first.get("prior_from"):
    about += f"; the prior is from split {markup.text(first['prior_from'])}"
  else:
    about += "; no other split outlines findings, so that there is no prior"
  if first.get("without_prior"):
    listed = markup.text(wording.listing(first["without_prior"]))
    about += f". Without a prior, and so in no macro: {listed}"
  pictures = [
    markup.figure(
      title,
      figures.forest(
        _rows(key, entries, runs),
        reference=0 if key == "cnr" else None,
        x_label=title,
      ),
    )
    for key, title in _METRICS.items()
  ]
  refused = deltas.get("refused", {}).get("grounding", {}).get(name)
  notes = protocols.notes(entries, prompts=True, refused=refused)
  body = (
    f"<h3>{markup.text(name)}</h3><p>{about}.</p>{markup.warnings(notes)}"
    f"{_verdicts(entries, runs)}{palette.legend(runs)}"
    f"{markup.grid('charts', pictures)}"
  )
  body += _difference(deltas.get("grounding", {}).get(name) or {}, runs)
  if palette.few(runs):
    body += markup.details(
      "Every finding and threshold", _tables(entries, runs)
    )
  return body


def _difference(delta, runs) -> str:
  """A table of how two runs differ, over the same outlined findings."""
  rows = [
    markup.row(
      [
        f"{kind}, macro",
        *(
          markup.interval(part["macro"].get(key), sign=True) for key in _METRICS
        ),
      ]
    )
    for kind in grounding_scores.ASKED
    if (part := delta.get(kind))
  ]
  body = ""
  if rows:
    names = " - ".join(markup.text(run.name) for run in runs)
    body = markup.table([names, *_METRICS.values()], rows)
  if delta.get("left_out"):
    body += (
      f'<p class="note">The difference leaves out {delta["left_out"]} outlined '
      "findings that only one of the two runs saw.</p>"
    )
  return body


def _verdicts(entries, runs) -> str:
  """Says of each run, or group, whether its maps beat the prior."""
  groups: dict[str, list[Mapping[str, Any]]] = {}
  for run, entry in entries:
    name = run.name if palette.few(runs) else palette.group(run)
    dot = palette.dot(palette.colours(runs)[run.name])
    groups.setdefault(dot + markup.text(name), []).append(entry)
  lines = []
  for title, members in groups.items():
    sentences, good = [], True
    for key, subject in _COMPARED.items():
      verdicts = [_verdict(entry.get(key) or {}) for entry in members]
      verdicts = [v for v in verdicts if any(v.values())]
      if verdicts:
        words = _tally(verdicts) if len(members) > 1 else _sentence(verdicts[0])
        sentences.append(f"{subject} {words}.")
        good &= not any(v["unsure"] or v["lost"] for v in verdicts)
    if sentences:
      words = markup.text(
        " ".join([sentences[0], *map(wording.capital, sentences[1:])])
      )
      lines.append(markup.verdict(f"{title}: {words}", good=good))
  return "".join(lines)


# "beaten", "unsure" and "lost" -> the metrics' titles -> their differences.
_Verdict = Mapping[str, Mapping[str, str]]


def _verdict(against: Mapping[str, Any]) -> _Verdict:
  """Sorts the metrics by whether the phrase map beats the prior."""
  found: dict[str, dict[str, str]] = {kind: {} for kind in _WORDS}
  for key, title in _METRICS.items():
    item = against.get(key)
    if not item or item["value"] is None or item["low"] is None:
      continue
    kind = "unsure"
    if item["low"] > 0:
      kind = "beaten"
    elif item["high"] < 0:
      kind = "lost"
    found[kind][title] = wording.interval(item, sign=True)
  return found


def _sentence(verdict: _Verdict) -> str:
  parts = []
  for kind, words in _WORDS.items():
    metrics = [f"{title} ({delta})" for title, delta in verdict[kind].items()]
    if metrics:
      parts.append(f"{words} {wording.listing(metrics)}")
  return "; ".join(parts)


def _tally(verdicts: Sequence[_Verdict]) -> str:
  """Counts the runs of a group by what is so in each metric."""
  parts = []
  for kind, words in _WORDS.items():
    counts = {
      title: sum(title in verdict[kind] for verdict in verdicts)
      for title in _METRICS.values()
    }
    runs = f"of {len(verdicts)} runs "
    metrics = []
    for title, count in counts.items():
      if count:
        metrics.append(f"{count} {'' if metrics else runs}by {title}")
    if metrics:
      parts.append(f"{words} {wording.listing(metrics)}")
  return "; ".join(parts)


def _rows(key, entries, runs) -> list[figures.ForestRow]:
  """The macro figures of runs and baselines; of many runs, one map."""
  rows = []
  for title, run, part in _maps(entries, runs):
    if title in ("phrase", "token") and not palette.few(runs):
      continue
    item = part["macro"].get(key) or {"value": None, "low": None, "high": None}
    colour = palette.colours(runs)[run.name] if run else figures.GREY
    words = title
    if run and len(runs) > 1:
      words = f"{run.name}, {title}" if palette.few(runs) else run.name
    bold = title == "contrast" and palette.few(runs)
    rows.append(
      figures.ForestRow(
        words, item["value"], item["low"], item["high"], colour, bold
      )
    )
  return rows


def _maps(
  entries, runs
) -> Iterator[tuple[str, runs_lib.Run | None, Mapping[str, Any]]]:
  """Yields title, run and figures of each map, the baselines' last."""
  for run, entry in entries:
    for level in grounding_scores.ASKED:
      if entry["maps"].get(level):
        yield level, run, entry["maps"][level]
  for key, title in _BASELINES.items():
    if entries[0][1].get(key):
      yield title, None, entries[0][1][key]


def _tables(entries, runs) -> str:
  """The metrics of every finding, and IoU at each threshold."""
  rows = []
  maps = [
    (f"{palette.name(run, runs)}, {title}" if run else title, part)
    for title, run, part in _maps(entries, runs)
  ]
  for finding in dict.fromkeys(n for _, part in maps for n in part["findings"]):
    for i, (title, part) in enumerate(maps):
      item = part["findings"].get(finding)
      if item:
        words = f"{markup.text(finding)} ({item['rows']})" if i == 0 else ""
        cells = [markup.interval(item.get(key)) for key in _METRICS]
        rows.append(markup.row([words, title, *cells]))
  body = markup.table(["Finding", "Map", *_METRICS.values()], rows)
  levels = [key for key in maps[0][1]["macro"] if key.startswith("iou@")]
  if levels:
    body += markup.table(
      ["Macro", *(f"IoU at {key.removeprefix('iou@')}" for key in levels)],
      [
        markup.row(
          [title, *(markup.interval(part["macro"].get(k)) for k in levels)]
        )
        for title, part in maps
      ],
    )
  return body
