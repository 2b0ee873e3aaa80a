"""The page "Extend": its code runs, in one piece, in an empty folder."""

import re

import pytest

import book


@pytest.mark.filterwarnings("ignore::cvae_tutorial.SamplingWarning")
def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.*?)```", (book.BOOK / "extend.md").read_text(), re.S)
    namespace = {"__name__": "extend"}
    for part in code:
        exec(part, namespace)
    said = capsys.readouterr().out
    assert len(code) == 4 and "column 0: a count is 0, 1, 2, ..., got -3" in said and "got 2.5" in said
