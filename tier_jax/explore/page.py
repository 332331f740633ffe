"""The page: which control asks the explorer what. Needs Gradio."""

import contextlib
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import gradio as gr

from tier_jax.evaluators import prompts
from tier_jax.explore import explorer, markup

_NEIGHBOURS = 4
_PHRASE = "There is a pleural effusion."
_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# Gradio's own theme names fonts of other places.
STYLE: dict[str, Any] = {
  "theme": gr.themes.Base(
    primary_hue="teal", neutral_hue="slate", font=_FONTS, font_mono=_MONO
  ).set(
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    slider_color="*primary_600",
    body_text_color_subdued="*neutral_500",
  ),
  "css": (resources.files("tier_jax.explore") / "page.css").read_text("utf-8"),
}


def build(
  explore: explorer.Explorer, asked: Mapping[str, prompts.Prompts]
) -> gr.Blocks:
  """Returns the page, not yet served.

  Args:
    explore: answers.
    asked: the findings that it begins with.
  """
  default = explorer.Display()
  with gr.Blocks(title="TIER explorer", analytics_enabled=False) as page:
    opened = gr.State(None)
    gr.HTML(markup.HEADER)
    with gr.Row():
      with gr.Column(scale=3, min_width=320):
        file = gr.File(label="DICOM, PNG or JPEG", height=148, elem_id="file")
        said = gr.HTML("", elem_id="said")
        viewer = gr.HTML(markup.NOTHING, elem_id="viewer")
      with gr.Column(scale=2, min_width=320):
        phrase = gr.Textbox(_PHRASE, label="Phrase", elem_id="phrase")
        denial = gr.Textbox(
          label="Less (optional): a sentence that denies it",
          placeholder="There is no pleural effusion.",
          elem_id="denial",
        )
        show = gr.Button("Show where", variant="primary", elem_id="show")
        with gr.Group():
          opacity = gr.Slider(
            *(0, 100, round(100 * default.opacity)),
            step=1,
            label="Heat-map opacity (%)",
            elem_id="opacity",
          )
          centre = gr.Slider(
            *(0, 255, default.centre),
            step=1,
            label="Window centre",
            elem_id="centre",
          )
          width = gr.Slider(
            *(1, 256, default.width),
            step=1,
            label="Window width",
            elem_id="width",
          )
        gr.HTML(markup.DISPLAY_NOTE)
        scores = gr.HTML("", elem_id="scores")
        with gr.Accordion(
          "Findings and their sentences", open=False, elem_id="mine"
        ):
          findings = gr.Textbox(
            explorer.format_findings(asked),
            label="Findings",
            info="A finding a line; below it sentences that state it (+) and "
            "deny it (-), or none for the standard ones.",
            lines=8,
            max_lines=16,
            elem_id="findings",
          )
          again = gr.Button("Score again", elem_id="again")
    near = gr.HTML("", elem_id="near")
    session = _Session(explore)
    display = [phrase, denial, opacity, centre, width]
    file.upload(
      session.open,
      [file, findings, *display],
      [file, opened, said, viewer, scores, near],
      show_progress_on=viewer,
    )
    gr.on(
      [phrase.submit, denial.submit, show.click],
      session.draw,
      [opened, *display],
      viewer,
    )
    gr.on(
      [slider.change for slider in (opacity, centre, width)],
      session.draw,
      [opened, *display],
      viewer,
      show_progress="hidden",
      trigger_mode="always_last",
    )
    again.click(session.score, [opened, findings], scores)
  return page


class _Session:
  """The answers to events, as the page shows them."""

  def __init__(self, explore: explorer.Explorer):
    self._explore = explore
    self._index_name = explore.index.name if explore.index else ""

  def open(self, path: str | None, findings: str, *display: Any) -> list[Any]:
    """Reads a file that was dropped, and answers all that is asked of it."""
    if path is None:
      return [None, *[gr.skip()] * 5]
    name = Path(path).name
    try:
      opened = self._explore.open(path)
    except (ValueError, OSError) as error:
      said = markup.message(f"{name}: {error}", bad=True)
      return [None, None, said, markup.NOTHING, "", ""]
    finally:
      with contextlib.suppress(OSError):
        os.unlink(path)  # it was read, and may be a patient's
    notes = f" ({', '.join(opened.notes)})" if opened.notes else ""
    return [
      None,
      opened,
      markup.message(f"{name}{notes}"),
      self.draw(opened, *display),
      self.score(opened, findings),
      self._nearest(opened),
    ]

  def draw(
    self,
    opened: explorer.Opened | None,
    phrase: str,
    denial: str,
    opacity: float,
    centre: float,
    width: float,
  ) -> str:
    """Returns the image, with where the phrase is seen if there is one."""
    if opened is None:
      return markup.NOTHING
    phrase, denial = phrase.strip(), denial.strip()
    similarity, about = None, "The image alone"
    if phrase:
      similarity = self._explore.similarity(opened, phrase, denial)
      about = f"“{phrase}”" + (f" less “{denial}”" if denial else "")
    picture = self._explore.draw(
      opened, similarity, explorer.Display(centre, width, opacity / 100)
    )
    return markup.viewer(picture, about, similarity)

  def score(self, opened: explorer.Opened | None, findings: str) -> str:
    """Returns the scores of the findings, or what is wrong with these."""
    try:
      asked = explorer.parse_findings(findings)
    except ValueError as error:
      return markup.message(f"Findings: {error}", bad=True)
    if opened is None:
      return ""
    return markup.scores(self._explore.score(opened, asked), self._index_name)

  def _nearest(self, opened: explorer.Opened) -> str:
    index = self._explore.index
    if index is None:
      return ""
    return markup.neighbours(
      index.nearest_reports(opened.image_embed, _NEIGHBOURS),
      index.nearest_images(opened.image_embed, _NEIGHBOURS),
      index.name,
    )
