import math, pytest, unittest, json
from helper import check
from main import *
import main
LIMIT = 5
def same(x, y): assert x == y
def test_a(): assert add(1, 2) == 3
def test_b(): check(add(2, 2), 4)
def test_c(): same(add(2, 3), 5)
def test_d(): assert abs(add(0.1, 0.2) - 0.3) < 1e-9
def test_e(): assert is_even(4) is True and is_even(3) is False
def test_f():
    with pytest.raises(ValueError): fail()
def test_g(): assert words("a b") == ["a", "b"] and len(words("a")) == 1
def test_h(): assert add(1, 1) in (2,) and {2: 1}[add(1, 1)] == 1
def test_i(): assert add(1, 4) == LIMIT
class TestU(unittest.TestCase):
    def test_u(self): self.assertEqual(add(0, 0), 0)
    def test_v(self): self.assertListEqual(words("x y"), ["x", "y"])
