"""Image transforms: geometry by hand, and what must not move."""

import dataclasses

import numpy as np
import pytest

from tier_jax.data import transforms

STILL = transforms.AugmentConfig(
  min_area=1,
  max_area=1,
  min_ratio=1,
  max_ratio=1,
  degrees=0,
  shift=0,
  scale=0,
  brightness=0,
  contrast=0,
)


def smooth(height=60, width=80):
  y, x = np.mgrid[:height, :width]
  return (120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)


def test_without_any_range_a_square_is_unchanged():
  image = smooth(48, 48)
  got = transforms.train_image(image, 48, STILL, np.random.default_rng(0))
  np.testing.assert_array_equal(got, image)


def test_same_generator_same_view_and_views_differ():
  config = transforms.AugmentConfig()

  def view(seed):
    return transforms.train_image(
      smooth(), 32, config, np.random.default_rng(seed)
    )

  np.testing.assert_array_equal(view(1), view(1))
  assert not np.array_equal(view(1), view(2))
  assert view(1).shape == (32, 32)
  assert view(1).dtype == np.uint8


def test_large_images_shrink_without_a_shift():
  # A linear ramp stays the ramp it was, sampled at the new pixel centres.
  ramp = np.tile(np.linspace(0, 255, 256), (256, 1)).round().astype(np.uint8)
  got = transforms.train_image(ramp, 32, STILL, np.random.default_rng(0))
  want = (np.arange(32) + 0.5) * 8 - 0.5
  np.testing.assert_allclose(got[16], want, atol=1.0)  # rounded twice


def test_rotation_turns_about_the_centre():
  image = np.zeros((65, 65), np.uint8)
  image[30:35, 30:35] = 200  # a blob in the middle stays there
  image[32, 50:60] = 255
  turned = dataclasses.replace(STILL, degrees=30)
  got = transforms.train_image(image, 65, turned, np.random.default_rng(5))
  assert got[32, 32] == 200
  assert got[32, 50:60].max() < 250


def test_brightness_and_contrast_stay_in_range_and_scale():
  flat = np.full((20, 20), 100, np.uint8)
  config = dataclasses.replace(STILL, brightness=0.2, contrast=0.2)
  values = [
    transforms.train_image(flat, 20, config, np.random.default_rng(i))[10, 10]
    for i in range(50)
  ]
  assert 80 <= min(values) < 90
  assert 110 < max(values) <= 120


@pytest.mark.parametrize("seed", range(5))
def test_brightness_and_contrast_are_one_line_about_the_mean(seed):
  image = smooth(48, 48)
  config = dataclasses.replace(STILL, brightness=0.9, contrast=0.9)
  got = transforms.train_image(image, 48, config, np.random.default_rng(seed))
  draws = np.random.default_rng(seed).random(10)
  gain, contrast = 1 + 0.9 * (2 * draws[8:] - 1)
  bright = image.astype(np.float64) * gain
  want = (bright - bright.mean()) * contrast + bright.mean()
  # Rounding to whole numbers moves a value by 0.5 at most; the rest is for sums
  # in another order, of float64 (1e-13), whichever side of .5 they fall on.
  np.testing.assert_allclose(got, np.clip(want, 0, 255), atol=0.5 + 1e-6)


@pytest.mark.parametrize("shape", [(80, 60), (60, 80), (64, 64), (30, 200)])
@pytest.mark.parametrize("size", [32, 56, 96])
def test_eval_image_has_the_size_for_any_shape(shape, size):
  got = transforms.eval_image(smooth(*shape), size)
  assert got.shape == (size, size)


def test_eval_boxes_follow_the_image():
  image = np.zeros((256, 320), np.uint8)
  image[100:140, 150:190] = 255
  boxes = transforms.eval_boxes(
    np.array([[150, 100, 190, 140]]), (256, 320), 112
  )
  seen = transforms.eval_image(image, 112) > 127
  rows, columns = np.where(seen)
  want = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
  np.testing.assert_allclose(boxes[0], want, atol=1)
  outside = transforms.eval_boxes(np.array([[0, 0, 8, 8]]), (256, 320), 112)
  assert (outside == 0).all()


@pytest.mark.parametrize("shape", [(256, 320), (90, 70)])
def test_eval_mask_is_the_box_it_was_drawn_from(shape):
  box = np.array([[0.3, 0.4, 0.6, 0.5]]) * np.tile(shape[::-1], 2)
  x0, y0, x1, y1 = np.round(box[0]).astype(int)
  mask = np.zeros(shape, bool)
  mask[y0:y1, x0:x1] = True
  seen = transforms.eval_mask(mask, 64)
  assert seen.dtype == np.bool_
  rows, columns = np.where(seen)
  want = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
  box = transforms.eval_boxes(np.array([[x0, y0, x1, y1]]), shape, 64)
  np.testing.assert_allclose(box[0], want, atol=1)
  assert not transforms.eval_mask(np.zeros(shape, bool), 64).any()


@pytest.mark.parametrize("shape", [(256, 320), (90, 70), (64, 64)])
def test_eval_map_lies_where_eval_image_took_its_cells_from(shape):
  # A bright rectangle, found again when each pixel of the crop is a cell.
  y0, x0 = shape[0] // 4, shape[1] // 2
  image = np.zeros(shape, np.uint8)
  image[y0 : y0 + 20, x0 : x0 + 24] = 255
  places = transforms.eval_map(transforms.eval_image(image, 64), shape, 64)
  assert places.shape == shape and places.dtype == np.float32
  inside = ~np.isnan(places)
  mass = np.where(inside, places, 0)
  centre = [
    (mass.sum(axis=1 - axis) @ np.arange(shape[axis])) / mass.sum()
    for axis in range(2)
  ]
  np.testing.assert_allclose(centre, [y0 + 9.5, x0 + 11.5], atol=1)
  # A sixteenth of the short side is cut off at each end, to a crop's pixel.
  rows, columns = np.where(inside)
  side = min(shape)
  for found, length in ((rows, shape[0]), (columns, shape[1])):
    start = (length - side * 7 / 8) / 2
    assert abs(found.min() - start) <= side / 64 + 1
    assert abs(found.max() + 1 - (length - start)) <= side / 64 + 1


def test_eval_map_is_the_cells_own_values_at_their_centres():
  grid = np.array([[0.0, 1.0], [2.0, 5.0]])
  places = transforms.eval_map(grid, (8, 8), 7)  # a pixel is a pixel
  inside = places[~np.isnan(places)].reshape(7, 7)
  # Cells are 3.5 wide: the centres of the first and last lie at 1.25 and 4.75.
  line = np.clip((np.arange(7) + 0.5 - 1.75) / 3.5, 0, 1)
  np.testing.assert_allclose(inside[0], line, atol=1e-6)
  np.testing.assert_allclose(inside[:, -1], 1 + 4 * line, atol=1e-6)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"min_area": 0.0}, "augment.min_area 0.0"),
    ({"min_area": 0.9, "max_area": 0.8}, "expected 0 < min <= max <= 1"),
    ({"degrees": -1.0}, "augment.degrees is -1.0"),
    ({"min_ratio": 2.0}, "augment.min_ratio 2.0"),
  ],
)
def test_bad_config(change, words):
  with pytest.raises(ValueError, match=words):
    transforms.AugmentConfig(**change)


@pytest.mark.parametrize("shape", [(256, 320), (768, 256), (300, 300)])
def test_crop_keeps_its_ratio_and_its_share(shape):
  # On a ramp, the values at the crop's edges tell how wide it is.
  config = dataclasses.replace(
    STILL, min_area=0.6, max_area=0.6, min_ratio=0.9, max_ratio=0.9
  )
  ramp = np.tile(np.linspace(0, 255, shape[1]), (shape[0], 1))
  got = transforms.train_image(
    ramp.astype(np.uint8), 64, config, np.random.default_rng(0)
  )
  kept = (int(got[32, -1]) - int(got[32, 0])) / 255 * shape[1]
  want = np.sqrt(0.6) * min(shape[1], shape[0] * 0.9)
  assert abs(kept - want) < 0.03 * shape[1]
