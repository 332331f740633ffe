import numpy as np

from data_prep.phantom import canvas as canvas_lib


def test_units_are_placed_by_scale_shift_and_rotation():
  sheet = canvas_lib.Canvas((100, 200), 50.0, np.pi / 2, (0.5, 0.0))
  # (1, 0) turns clockwise to point down: 50 pixels under the shifted centre.
  np.testing.assert_allclose(sheet.x[100 - 1, 125], 0.98, atol=1e-5)
  np.testing.assert_allclose(sheet.y[100 - 1, 125], 0.0, atol=1e-5)


def test_a_filled_square_has_its_area_and_box():
  sheet = canvas_lib.Canvas((120, 120), 100.0)
  layer = sheet.fill(
    np.array([(-0.2, -0.3), (0.2, -0.3), (0.2, 0.3), (-0.2, 0.3)])
  )
  assert abs(layer.sum() / 2400 - 1) < 0.06
  found = canvas_lib.box(layer > 0.5)
  assert found is not None
  np.testing.assert_allclose(found, (40, 30, 80, 90), atol=1)
  assert canvas_lib.box(layer > 2) is None


def test_curves_pass_through_their_points():
  points = np.array([(0.0, 0.0), (0.1, 0.2), (0.4, 0.1), (0.5, 0.5)])
  for line in (
    canvas_lib.curve(points, 400),
    canvas_lib.loop(points, 400),
  ):
    gaps = np.hypot(*(line[:, None] - points[None]).transpose(2, 0, 1))
    assert gaps.min(0).max() < 0.01
  np.testing.assert_allclose(
    canvas_lib.loop(points, 50)[0], canvas_lib.loop(points, 50)[-1]
  )


def test_a_blur_keeps_the_sum_at_both_resolutions():
  sheet = canvas_lib.Canvas((160, 160), 100.0)
  layer = sheet.spot(0, 0, 0.05, 0.05)
  for sigma in (0.01, 0.1):
    np.testing.assert_allclose(
      sheet.blur(layer, sigma).sum(), layer.sum(), rtol=0.03
    )


def test_a_spot_has_its_widths_along_its_axes():
  sheet = canvas_lib.Canvas((200, 200), 100.0)
  spot = sheet.spot(0.0, 0.0, 0.2, 0.05, np.pi / 2)
  half = np.exp(-0.5)
  np.testing.assert_allclose(spot[120, 100], half, rtol=1e-3)
  np.testing.assert_allclose(spot[100, 105], half, rtol=1e-3)
