"""Benchmarks name labels as data_prep spells them in records."""

from data_prep import labels
from data_prep.datasets import nih_cxr14, open_i, rsna, vindr_cxr
from tier_jax.evaluators.benchmarks import registry


def test_labels_are_those_of_the_datasets():
  found = {
    name: set(registry.find(name).labels or ()) for name in registry.NAMES[:-1]
  }
  assert found["chexpert"] < found["chexpert_14"] == set(labels.CHEXPERT_LABELS)
  assert found["nih_cxr14"] == {*nih_cxr14.FINDINGS, nih_cxr14.NO_FINDING}
  assert found["open_i"] == set(open_i.LABELS)
  left_out = {"Other lesion", "Other disease"}
  assert found["vindr_cxr"] == set(vindr_cxr.LABELS) - left_out


def test_rsna_s_labels_are_those_of_its_plan(tmp_path):
  image = "01234567-89ab-cdef-0123-456789abcdef"
  (tmp_path / "stage_2_train_labels.csv").write_text(
    f"patientId,x,y,width,height,Target\n{image},,,,,0\n"
  )
  (tmp_path / "stage_2_detailed_class_info.csv").write_text(
    f"patientId,class\n{image},Normal\n"
  )
  (item,) = rsna.plan(tmp_path).items
  assert tuple(item.labels) == registry.find("rsna").labels
