import pytest

from data_prep import paths, rejects


@pytest.fixture
def root(tmp_path):
  (tmp_path / "a" / "b").mkdir(parents=True)
  (tmp_path / "a" / "b" / "x.txt").write_text("x")
  (tmp_path / "y.txt").write_text("y")
  return tmp_path


def test_first_that_is_a_file_is_taken(root):
  names = ["none.txt", "a/none.txt", "a/b", "a/b/x.txt", "y.txt"]
  assert paths.locate(root, names) == root / "a" / "b" / "x.txt"
  assert paths.locate(root, ["y.txt"]) == root / "y.txt"
  assert paths.locate(root, ["none.txt"]) is None
  assert paths.locate(root, []) is None


@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("../y.txt", "path:outside_source_dir"),
    ("a/../../y.txt", "path:outside_source_dir"),
    ("/etc/passwd", "path:outside_source_dir"),
    ("", "path:outside_source_dir"),
    (".", "path:outside_source_dir"),
    ("a/\0", "path:invalid"),
  ],
)
def test_names_that_lead_out_are_refused(root, name, reason):
  with pytest.raises(rejects.RejectError, match=reason):
    paths.locate(root, [name])


@pytest.mark.parametrize("link", ["a/b/link.txt", "a/link/x.txt", "link.txt"])
def test_links_that_lead_out_are_refused(root, tmp_path_factory, link):
  outside = tmp_path_factory.mktemp("outside")
  (outside / "x.txt").write_text("x")
  path = root / link
  if path.name == "x.txt":
    path.parent.symlink_to(outside)
  else:
    path.symlink_to(outside / "x.txt")
  with pytest.raises(rejects.RejectError, match="path:outside_source_dir"):
    paths.locate(root, [link])


def test_links_that_stay_inside_are_followed(root):
  (root / "a" / "link.txt").symlink_to(root / "a" / "b" / "x.txt")
  (root / "a" / "c").symlink_to(root / "a" / "b")
  assert paths.locate(root, ["a/link.txt"]) == root / "a" / "link.txt"
  assert paths.locate(root, ["a/c/x.txt"]) == root / "a" / "c" / "x.txt"


def test_folder_that_the_owner_linked_is_followed(root, tmp_path_factory):
  source = tmp_path_factory.mktemp("source")
  (source / "files").symlink_to(root / "a")
  assert paths.locate(source, ["files/b/x.txt"]) == source / "files/b/x.txt"
