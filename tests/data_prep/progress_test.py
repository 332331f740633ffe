from data_prep import progress


def test_lines_tell_rate_and_time_left(capsys, monkeypatch):
  now = [100.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  with progress.Counter(10, "files") as counter:
    now[0] += 60
    counter.add(0)  # nothing yet: no rate, and no line
    counter.add(4)
    counter.add(1)  # too soon for another line
    now[0] += 40
    counter.add(3)
  assert capsys.readouterr().err == (
    "4/10 files, 0.1/s, 90 s left\n8/10 files, 0.1/s, 25 s left\n"
  )


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
  monkeypatch.setattr(
    progress.sys.stderr, "isatty", lambda: True, raising=False
  )
  with progress.Counter(2, "files") as counter:
    counter.add(2)
  assert "2/2" in capsys.readouterr().err
