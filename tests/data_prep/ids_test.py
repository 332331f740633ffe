import hashlib
import hmac
import stat

import pytest

from data_prep import ids

KEY = bytes(range(32))


def test_key_is_made_once_beside_the_output(tmp_path):
  output_dir = tmp_path / "prepared" / "mimic_cxr"
  key = ids.load_key(None, output_dir)
  path = tmp_path / "prepared" / "id_key"
  assert len(key) == 32
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  assert list(path.parent.iterdir()) == [path]
  assert ids.load_key(None, output_dir) == key
  assert ids.load_key(None, tmp_path / "prepared" / "chexpert") == key
  assert ids.load_key(None, tmp_path / "other" / "chexpert") != key


def test_named_key_is_used(tmp_path):
  path = tmp_path / "key"
  path.write_text(KEY.hex() + "\n")
  assert ids.load_key(path, tmp_path / "out") == KEY


@pytest.mark.parametrize("text", ["", "ab" * 31, "not hexadecimal" * 9])
def test_bad_key_is_an_error_that_does_not_show_it(tmp_path, text):
  path = tmp_path / "key"
  path.write_text(text)
  with pytest.raises(ValueError, match="64 hexadecimal digits") as error:
    ids.load_key(path, tmp_path / "out")
  assert not text or text not in str(error.value)


def test_missing_named_key_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="cannot be read"):
    ids.load_key(tmp_path / "key", tmp_path / "out")
  assert not (tmp_path / "key").exists()


def test_key_inside_the_output_is_refused(tmp_path):
  path = tmp_path / "out" / "key"
  path.parent.mkdir()
  path.write_text(KEY.hex())
  with pytest.raises(ValueError, match="lies in output_dir"):
    ids.load_key(path, tmp_path / "out")


def test_hash_is_hmac_sha256():
  expected = hmac.new(KEY, b"padchest/patient/7", hashlib.sha256).hexdigest()
  assert ids.hash_id(KEY, "padchest", "patient", "7") == expected
  assert ids.hash_id(KEY, "padchest", "study", "7") != expected
  assert ids.hash_id(KEY[::-1], "padchest", "patient", "7") != expected


def test_fingerprint_is_not_the_key():
  assert len(ids.fingerprint(KEY)) == 8
  assert ids.fingerprint(KEY) not in KEY.hex()
