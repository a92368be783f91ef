"""An ordinary suite: what it uses works in one process and in two."""

import asyncio, collections, importlib, io, json, math, subprocess, sys, unittest
from decimal import Decimal
from unittest import mock
import pytest
import main
from main import *
from main import add as plus

def test_functions():
    assert add(1) == 2 and add(1, 2, 3, scale=2) == 12 and plus(0.1, 0.2) == pytest.approx(0.3)
    assert main.LIMIT == 10 and main.NAMES == ["a", "b"]
    assert add.__name__ == "add" and add.__doc__ == "Adds." and callable(add)
    assert math.isclose(add(0.1, 0.2), 0.3)
    with pytest.raises(TypeError): add()
    with pytest.raises(AttributeError): main.missing
    assert hasattr(main, "add") and not hasattr(main, "nothing") and "add" in dir(main)

def test_lists_in_place():
    xs = [3, 1, 2]
    assert sort_in_place(xs) is xs and xs == [1, 2, 3]
    push(xs, 4); assert xs == [1, 2, 3, 4]
    g = [[1, 2], [3]]; inner = g[0]; nest(g)
    assert inner == [9, 2] and g[2] is inner and len(g) == 3
    d = {"a": [1]}; same(d)["a"].append(2); assert d == {"a": [1, 2]}

def test_generators():
    assert list(count(3)) == [0, 1, 2]
    g = count(2); assert next(g) == 0 and next(g) == 1
    with pytest.raises(StopIteration): next(g)
    assert list(squares([1, 2])) == [1, 4]
    assert sum(count(4)) == 6

def test_callbacks():
    assert apply(lambda x: x + 1, [1, 2]) == [2, 3]
    assert apply(str.upper, ["a"]) == ["A"] and apply(int, ["1"]) == [1] and apply(math.sqrt, [4]) == [2.0]
    assert compose(lambda x: x + 1, lambda x: x * 2)(3) == 7
    def boom(x): raise KeyError(x)
    with pytest.raises(KeyError): apply(boom, [1])
    class Own(Exception): pass
    def boom2(x): raise Own(x)
    with pytest.raises(Own): apply(boom2, [1])
    f = decorate(lambda x: x * 2)
    assert f(2) == 4 and f.calls == [(2,)]
    @main.decorate
    def g(x): return x
    assert g(5) == 5

def test_errors():
    with pytest.raises(ValueError, match="bad value") as e: fail()
    assert e.value.args == ("bad value", 3)
    with pytest.raises(OwnError) as e: fail("own")
    assert e.value.code == 7 and str(e.value) == "<mine 7>" and isinstance(e.value, Exception)
    with pytest.raises(json.JSONDecodeError): fail("json")
    with pytest.raises(SystemExit) as e: fail("exit")
    assert e.value.code == 3
    with pytest.raises(ZeroDivisionError): fail("zero")
    with pytest.raises(KeyError) as e: fail("key")
    assert e.value.args[0] == "k"
    assert issubclass(SubError, OwnError) and issubclass(OwnError, Exception)
    with pytest.raises(NotImplementedError): Shape().area()

def test_classes():
    a, d = Animal("Rex"), Dog.make("Fido")
    assert isinstance(d, Dog) and isinstance(d, Animal) and not isinstance(a, Dog) and issubclass(Dog, Animal)
    assert d.speak() == "Woof" and d.upper == "FIDO" and type(d) is Dog and type(d).__name__ == "Dog"
    d.upper = "BOB"; assert d.name == "bob"
    d.name = "x"; assert d.name == "x"
    assert d.add("sit").add("roll") is d and d.tricks == ["sit", "roll"]
    assert Animal.twice(2) == 4 and repr(a) == "Animal('Rex')" and str(a) == "Animal('Rex')" and f"{a}" == "Animal('Rex')"
    assert Animal.speak(d) == "..." and a != d and a == a and a in [a] and {a: 1}[a] == 1
    Animal.kinds = 4; assert d.kinds == 4
    with pytest.raises(AttributeError): a.nothing
    del d.name
    assert not hasattr(d, "name")
    assert vars(a) == {"name": "Rex", "tricks": []}

def test_operators():
    p = Point(1, 2)
    assert p == Point(1, 2) and p != Point(1, 3) and p + p == Point(2, 4) and p * 3 == Point(3, 6) and repr(p) == "Point(x=1, y=2)"
    with pytest.raises(TypeError): hash(p)
    v, w = Vec(1, 2), Vec(1, 3)
    assert len(v) == 2 and v[0] == 1 and list(v) == [1, 2] and 2 in v and 5 not in v and v < w and sorted([w, v])[0] is v
    assert v and not Vec() and v(1) and {v, Vec(1, 2)} == {v} and str(v) == "vec"
    with v as u:
        assert u is v
    assert v.closed
    with v: raise ValueError
    with pytest.raises(IndexError): v[9]

def test_kinds():
    assert Color.RED.value == 1 and Color(1) is Color.RED and Color["BLUE"] is Color.BLUE and [c.name for c in Color] == ["RED", "BLUE"] and len(Color) == 2
    assert isinstance(Color.RED, Color) and Color.RED == Color.RED and Color.RED != Color.BLUE
    p = pair(1, 2); assert p == (1, 2) and p.left == 1 and isinstance(p, Pair) and Pair(3, 4).right == 4
    assert words("a b a") == {"a": 2, "b": 1} and words("a a").most_common(1) == [("a", 2)]
    assert money("1.10") == Decimal("2.20") and big() == 10 ** 400 and math.isnan(nan())
    assert groups(["a", "bb", "c"]) == {1: ["a", "c"], 2: ["bb"]}
    c = cycle(); assert c[0] == 1 and c[1] is c
    for x in (b"ab", bytearray(b"x"), {1, 2}, frozenset([1]), 1 + 2j, range(3), None, True, "\ud800", collections.deque([1], 3), ..., (1, (2, [3]))):
        assert same(x) == x and type(same(x)) is type(x)

def test_output(capsys):
    shout("hi")
    out, err = capsys.readouterr()
    assert out == "HI\n" and err == "err\n"

def test_input(monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda prompt="": "Ann")
    ask()
    assert capsys.readouterr().out == "Hello, Ann!\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    assert read_all() == ["a", "b"]
    with mock.patch("builtins.input", side_effect=["x"]):
        ask()

def test_files(tmp_path, monkeypatch):
    save(tmp_path / "f", "text"); assert load(str(tmp_path / "f")) == "text"
    monkeypatch.chdir(tmp_path); monkeypatch.setenv("MODE", "m"); monkeypatch.setattr(sys, "argv", ["main.py", "-x"])
    assert env() == ("m", ["-x"], str(tmp_path)) and load("f") == "text"

def test_patches(monkeypatch):
    monkeypatch.setattr(main, "helper", lambda: 5); assert main.call_helper() == 5
    monkeypatch.undo(); assert main.call_helper() == 1
    with mock.patch("main.helper", lambda: 7): assert main.call_helper() == 7
    with mock.patch.object(main.Dog, "speak", lambda self: "Miau"): assert Dog("x").speak() == "Miau"
    assert Dog("x").speak() == "Woof"
    monkeypatch.setattr(main, "LIMIT", 3); assert main.LIMIT == 3

def test_reload(capsys):
    importlib.reload(main)
    assert main.LIMIT == 10


def test_subprocess():
    run = subprocess.run([sys.executable, "-c", "import main; main.shout('x')"], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "X\n", "err\n")


def test_async():
    assert asyncio.run(go()) == 3 and asyncio.run(later(4)) == 5
async def go(): return await later(2)

def test_links():
    n = Node(1, Node(2)); assert n.next.value == 2 and n.next.next is None
    n.next.next = n; assert n.next.next is n

class TestStack(unittest.TestCase):
    def setUp(self): self.s = Stack()
    def test_push(self):
        self.s.push(1); self.s.push(2)
        self.assertEqual(self.s.pop(), 2); self.assertEqual(self.s.items, [1])
    def test_empty(self):
        with self.assertRaises(IndexError): self.s.pop()
        self.assertRaisesRegex(IndexError, "emp", self.s.pop)
        self.assertIsInstance(self.s, Stack)
        self.assertIsNone(same(None)); self.assertAlmostEqual(add(0.1, 0.2), 0.3)
    def test_subs(self):
        for i in range(3):
            with self.subTest(i=i): self.assertEqual(add(i), i + 1)
