import numpy as np
import pytest

from data_prep.phantom import anatomy as anatomy_lib
from data_prep.phantom import film, patients
from data_prep.phantom import findings as findings_lib

_BOXED = [name for name in findings_lib.NAMES if name != "devices"]


def _draw(name, severity, seed, view="frontal"):
  """Returns a chest without a finding, one with it, and its boxes."""
  rng = np.random.default_rng((seed, findings_lib.NAMES.index(name)))
  anatomy = anatomy_lib.draw(rng, seed % 2 == 0, 0.45)
  exposure = film.draw_exposure(rng, view, False)
  picture = patients.Picture(view, False, exposure)
  findings = findings_lib.draw_finding(name, rng, severity)
  without, _ = patients.photograph(anatomy, [], picture)
  with_it, boxes = patients.photograph(anatomy, findings, picture)
  return without, with_it, [box for found in boxes for box in found]


@pytest.mark.parametrize("severity", findings_lib.SEVERITIES)
@pytest.mark.parametrize("name", findings_lib.NAMES)
def test_a_finding_changes_the_picture(name, severity):
  without, with_it, _ = _draw(name, severity, 0)
  changed = np.abs(with_it - without) > 0.03
  assert 30 < changed.sum() < 0.7 * changed.size


@pytest.mark.parametrize(
  "name", [name for name in findings_lib.NAMES if name != "pneumothorax"]
)
def test_a_finding_changes_the_lateral_too(name):
  without, with_it, boxes = _draw(name, "severe", 1, "lateral")
  assert (np.abs(with_it - without) > 0.03).sum() > 30
  assert boxes == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", _BOXED)
def test_boxes_lie_inside_and_hold_what_changed(name, seed):
  without, with_it, boxes = _draw(name, "moderate", seed)
  height, width = without.shape
  assert boxes
  inside = np.zeros(without.shape, bool)
  for x0, y0, x1, y1 in boxes:
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    # The film spreads an edge by a few pixels.
    inside[max(0, y0 - 4) : y1 + 4, max(0, x0 - 4) : x1 + 4] = True
  change = np.abs(with_it - without)
  strong = change > 0.5 * np.quantile(change, 0.9995)
  assert inside[strong].mean() > 0.75
  assert change[inside].mean() > 2.5 * change[~inside].mean()


def test_places_vary():
  centres = []
  for seed in range(12):
    _, _, boxes = _draw("cardiomegaly", "moderate", seed)
    x0, y0, x1, y1 = boxes[0]
    centres.append(((x0 + x1) / 2, (y0 + y1) / 2))
  assert (np.std(centres, 0) > 8).all()
