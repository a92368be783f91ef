from main import *
import pytest


@pytest.fixture
def mine():
    return 1


def test_out(capsys):
    say()
    assert capsys.readouterr().out == "hello\n"


def test_path(tmp_path):
    write(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "x"


def test_mine(mine):
    assert f() == mine
