"""Code that tests/separate/test_main.py tests."""

import collections, dataclasses, enum, json, math, os, sys
from decimal import Decimal
from pathlib import Path

LIMIT = 10
NAMES = ["a", "b"]

def add(a, b=1, *rest, scale=1):
    """Adds."""
    return (a + b + sum(rest)) * scale

def sort_in_place(items):
    items.sort()
    return items

def push(items, x):
    items.append(x)

def nest(grid):
    grid[0][0] = 9
    grid.append(grid[0])

def count(n):
    for i in range(n):
        yield i

def squares(it):
    return map(lambda x: x * x, it)

def apply(f, xs):
    return [f(x) for x in xs]

def compose(f, g):
    return lambda x: f(g(x))

def fail(kind="value"):
    if kind == "value":
        raise ValueError("bad value", 3)
    if kind == "own":
        raise OwnError("mine", code=7)
    if kind == "json":
        json.loads("{")
    if kind == "exit":
        sys.exit(3)
    if kind == "key":
        {}["k"]
    return 1 / 0

class OwnError(Exception):
    def __init__(self, text, code=0):
        super().__init__(text)
        self.code = code
    def __str__(self):
        return f"<{self.args[0]} {self.code}>"

class SubError(OwnError):
    pass

class Animal:
    kinds = 0
    def __init__(self, name):
        self.name = name
        self.tricks = []
    def speak(self):
        return "..."
    @property
    def upper(self):
        return self.name.upper()
    @upper.setter
    def upper(self, v):
        self.name = v.lower()
    @staticmethod
    def twice(x): return 2 * x
    @classmethod
    def make(cls, name): return cls(name)
    def add(self, t):
        self.tricks.append(t)
        return self
    def __repr__(self): return f"Animal({self.name!r})"

class Dog(Animal):
    def speak(self): return "Woof"

@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    def __add__(self, o): return Point(self.x + o.x, self.y + o.y)
    def __mul__(self, k): return Point(self.x * k, self.y * k)

class Vec:
    def __init__(self, *v): self.v = v
    def __len__(self): return len(self.v)
    def __getitem__(self, i): return self.v[i]
    def __iter__(self): return iter(self.v)
    def __contains__(self, x): return x in self.v
    def __eq__(self, o): return isinstance(o, Vec) and self.v == o.v
    def __hash__(self): return hash(self.v)
    def __lt__(self, o): return self.v < o.v
    def __bool__(self): return any(self.v)
    def __enter__(self): return self
    def __exit__(self, *e): self.closed = True; return e[0] is ValueError
    def __call__(self, x): return x in self.v
    def __str__(self): return "vec"

class Color(enum.Enum):
    RED = 1
    BLUE = 2

Pair = collections.namedtuple("Pair", "left right")
def pair(a, b): return Pair(a, b)
def words(t): return collections.Counter(t.split())
def money(t): return Decimal(t) * 2
def big(): return 10 ** 400
def nan(): return float("nan")
def shout(text):
    print(text.upper())
    print("err", file=sys.stderr)
def ask():
    name = input("Name? ")
    print(f"Hello, {name}!")
def read_all(): return [line.strip() for line in sys.stdin]
def save(path, text): Path(path).write_text(text)
def load(path): return open(path).read()
def env(): return os.environ.get("MODE"), sys.argv[1:], os.getcwd()
async def later(x): return x + 1
def groups(xs):
    d = collections.defaultdict(list)
    for x in xs: d[len(x)].append(x)
    return d
def decorate(f):
    calls = []
    def wrapper(*a, **k):
        calls.append(a)
        return f(*a, **k)
    wrapper.calls = calls
    return wrapper
def call_helper(): return helper()
def helper(): return 1
def cycle():
    l = [1]; l.append(l); return l
def same(x): return x
class Stack:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self):
        if not self.items: raise IndexError("empty")
        return self.items.pop()
class Node:
    def __init__(self, value, next=None): self.value, self.next = value, next
class Shape:
    def area(self): raise NotImplementedError
