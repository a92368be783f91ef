import fractions
import json
import math
import os.path
import statistics
import unittest
from collections import Counter
from fractions import Fraction

import pytest

import main


def test_counter():
    assert Counter(main.letters("aab")) == Counter({"a": 2, "b": 1})


def test_fraction():
    assert fractions.Fraction(main.half()) == Fraction(1, 2)


def test_json():
    assert json.loads(main.text()) == {"a": [1, 2]}


def test_mean():
    assert statistics.mean(main.numbers()) == 2


def test_path():
    assert os.path.basename(main.path()) == "b"


def test_warns():
    with pytest.warns(UserWarning):
        main.warn()


def test_raises():
    with pytest.raises(ValueError) as caught:
        main.fail()
    assert caught.match("bad")


def test_hypot():
    assert math.hypot(*main.numbers()[:2]) == pytest.approx(math.sqrt(5))


class TestOld(unittest.TestCase):
    def test_raises(self):
        with self.assertRaises(ValueError):
            main.fail()

    def test_logs(self):
        with self.assertLogs("main"):
            main.log()

    def test_counts(self):
        self.assertCountEqual(main.letters("ab"), "ba")
