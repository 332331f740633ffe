"""What a training is told before any work starts."""

import dataclasses
import json
import logging

import pytest
import safetensors.numpy

from tests.models import bert_reference
from tier_jax import config as config_lib
from tier_jax import experiment
from tier_jax.data import pair_source, tokenizer, transforms


def make(directory, name):
  """Returns a config of weights in `directory` and a tokenizer's name."""
  tokenize = tokenizer.Tokenizer.from_name("bundled", 8)
  values = bert_reference.CONFIG | {"vocab_size": tokenize.vocab_size}
  (directory / "config.json").write_text(json.dumps(values))
  safetensors.numpy.save_file(
    bert_reference.weights(), directory / "model.safetensors"
  )
  image = {"variant": "Ti", "image_size": 32}
  return config_lib.build(
    {
      "data": {
        "data_dir": "somewhere",
        "datasets": ("phantoms",),
        "tokenizer": name,
        "max_length": 8,
      },
      "model": {"image": image, "text": {}},
      "init": {"text": str(directory)},
      "train": {"batch_size": 8, "num_steps": 4},
    }
  )


@pytest.fixture
def other_vocabulary(tmp_path):
  """A vocab.txt whose first two words have changed places."""
  tokens = tokenizer.BUNDLED_VOCABULARY.read_text("utf-8").split("\n")
  words = [i for i, token in enumerate(tokens) if token.isalpha()][:2]
  tokens[words[0]], tokens[words[1]] = tokens[words[1]], tokens[words[0]]
  path = tmp_path / "other.txt"
  path.write_text("\n".join(tokens), "utf-8")
  return path


def test_pretrained_text_weights_want_their_own_vocabulary(tmp_path):
  config = make(tmp_path, "bundled")
  words = "data.tokenizer is 'bundled', but init.text .* expected its tokenizer"
  with pytest.raises(ValueError, match=words):
    experiment.resolve(config)
  # As in an export of a run that was trained with it.
  text = tokenizer.Tokenizer.from_name("bundled", 8).to_json()
  (tmp_path / "tokenizer.json").write_text(text)
  _, tokenize = experiment.resolve(config)
  assert tokenize.to_json() == text


def test_another_vocabulary_is_warned_of(tmp_path, other_vocabulary, caplog):
  caplog.set_level(logging.WARNING)
  config = make(tmp_path, str(other_vocabulary))
  experiment.resolve(config)
  assert "other.txt' may number tokens otherwise than init.text" in caplog.text
  caplog.clear()
  same = tmp_path / "tokenizer.json"
  tokenize = tokenizer.Tokenizer.from_name(str(other_vocabulary), 8)
  same.write_text(tokenize.to_json())
  experiment.resolve(config)
  assert not caplog.text
  data = dataclasses.replace(config.data, tokenizer=str(tmp_path))
  experiment.resolve(dataclasses.replace(config, data=data))
  assert not caplog.text


def test_new_files_are_to_be_read_as_the_first_datasets_were(tmp_path, caplog):
  for name, recipe in (("a", "chexpert"), ("b", "voi"), ("c", "chexpert")):
    (tmp_path / name).mkdir()
    settings = {"recipe": recipe, "short_side": 64}
    (tmp_path / name / "manifest.json").write_text(
      json.dumps({"splits": {}, "settings": settings})
    )

  def find(*names):
    return experiment.find_rendering(
      pair_source.DataConfig(str(tmp_path), datasets=names)
    )

  caplog.set_level(logging.WARNING)
  want = transforms.Rendering("chexpert", 64)
  assert find("a", "c") == want
  assert not caplog.messages
  assert find("a", "b") == want
  (message,) = caplog.messages
  assert (
    "b by voi at 64 pixels; new files will be read as those of a" in message
  )
  (tmp_path / "b" / "manifest.json").write_text('{"splits": {}}')
  with pytest.raises(ValueError, match="b/manifest.json has no setting 'rec"):
    find("b")
