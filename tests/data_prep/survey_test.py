import numpy as np
from array_record.python import array_record_module  # pyright: ignore

from data_prep import corpus, survey
from tier_jax.data import records

TEXT = "Edema, XXXXs; XXXX-XXXX xxxx. ___ of __/____: don't, x-ray, EDEMA."


def test_words_and_placeholders_are_those_of_the_corpus(tmp_path):
  record = records.Record(
    image=np.zeros((2, 3), np.uint8),
    image_id="i",
    study_id="s",
    patient_id="p",
    impression=TEXT,
  )
  writer = array_record_module.ArrayRecordWriter(str(tmp_path / "a"))
  writer.write(records.encode(record))
  writer.close()
  manifest = {
    "splits": {"test": {"records": 1, "shards": {"a": {"records": 1}}}}
  }
  found = survey.take(tmp_path, manifest)
  assert found.gaps == 6
  # "s" is what is left of "XXXXs".
  assert found.vocabulary == {
    "edema": 2,
    **dict.fromkeys(("s", "xxxx", "of", "don't", "x-ray"), 1),
  }
  whole = corpus.check([TEXT])
  assert len(found.vocabulary) == whole.vocabulary
  words = found.vocabulary.total()
  assert whole.placeholder_share == round(6 / (6 + words), 4)
