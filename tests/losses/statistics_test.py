"""Similarity statistics against loops."""

import itertools

import jax.numpy as jnp
import numpy as np

from tier_jax.losses import statistics


def test_equals_loops():
  rng = np.random.default_rng(0)
  sims = rng.uniform(-1, 1, (3, 4, 5)).astype(np.float32)
  mask = np.arange(4)[None] < np.array([4, 2, 1])[:, None]
  got = statistics.similarity_statistics(jnp.asarray(sims), jnp.asarray(mask))
  kept = sims[mask]
  np.testing.assert_allclose(
    got["share_near_zero"], np.mean(np.abs(kept) < 0.1)
  )
  np.testing.assert_allclose(
    got["mean_max_similarity"], kept.max(1).mean(), rtol=1e-6
  )
  cosines = []
  for report, counted in zip(sims[:2], mask[:2], strict=True):
    rows = report[counted] / np.linalg.norm(report[counted], axis=1)[:, None]
    cosines.append(np.mean([a @ b for a, b in itertools.combinations(rows, 2)]))
  np.testing.assert_allclose(got["row_cosine"], np.mean(cosines), rtol=1e-5)
  np.testing.assert_allclose(
    got["mean_log_tokens"], (np.log(4) + np.log(2)) / 2, rtol=1e-6
  )
  np.testing.assert_allclose(got["excluded_reports"], 1 / 3, rtol=1e-6)


def test_collapse_shows_as_row_cosine_of_one():
  row = jnp.array([0.9, 0.1, 0.0, -0.2])
  sims = jnp.tile(row, (2, 3, 1))
  got = statistics.similarity_statistics(sims, jnp.ones((2, 3), bool))
  np.testing.assert_allclose(got["row_cosine"], 1.0, rtol=1e-6)
