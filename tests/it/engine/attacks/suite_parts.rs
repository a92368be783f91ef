//! What tests use besides their own names: fixtures, modules of the suite, what pytest and unittest
//! compare with, conditions of skips. Code under test that changes one of them earns no pass.

use serde_json::{Value, json};

use crate::harness::{Daemon, Options, patient};

type Files = &'static [(&'static str, &'static str)];

/// Submissions that solve nothing, each with the suite that it is handed in for.
#[rustfmt::skip]
const CHANGES: &[(&str, Files, Files)] = &[
    ("it raises approx's tolerance", &[("main.py", "import _pytest.python_api as p\np.ApproxScalar.DEFAULT_RELATIVE_TOLERANCE=1e9\np.ApproxScalar.DEFAULT_ABSOLUTE_TOLERANCE=1e9\ndef add(a, b): return 7\n")], &[("test_main.py", "import pytest\nfrom main import add\ndef test_a(): assert add(1, 2) == pytest.approx(3)\n")]),
    ("it raises approx's tolerance when it is called", &[("main.py", "def add(a, b):\n  import _pytest.python_api as p\n  p.ApproxScalar.DEFAULT_ABSOLUTE_TOLERANCE=1e9\n  return 7\n")], &[("test_main.py", "import pytest\nfrom main import add\ndef test_a(): assert add(1, 2) == pytest.approx(3)\n")]),
    ("it replaces what assertCountEqual counts with", &[("main.py", "import collections\ncollections.Counter=lambda s: 0\ndef f(): return [9]\n")], &[("test_main.py", "import unittest\nfrom main import f\nclass T(unittest.TestCase):\n  def test_a(self): self.assertCountEqual(f(), [1, 2])\n")]),
    ("it replaces what assertRegex matches with", &[("main.py", "import re\nclass R:\n  pattern=\"x\"\n  def search(s, t): return True\nre.compile=lambda *a: R()\ndef f(): return \"no\"\n")], &[("test_main.py", "import unittest\nfrom main import f\nclass T(unittest.TestCase):\n  def test_a(self): self.assertRegex(f(), \"yes+\")\n")]),
    ("it replaces what pytest.raises matches with", &[("main.py", "import re\nre.search=lambda *a: True\ndef f(): raise ValueError(\"no\")\n")], &[("test_main.py", "import pytest\nfrom main import f\ndef test_a():\n  with pytest.raises(ValueError, match=\"yes+\"): f()\n")]),
    ("it replaces a function of a helper module", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['helper'].check = lambda *a: None\n  return 7\n")], &[("test_main.py", "import helper\nfrom main import add\ndef test_1(): assert add(3, 4) == 7\ndef test_2(): helper.check(add(1, 2), 3)\n"), ("helper.py", "def check(a, b): assert a == b\n")]),
    ("it replaces a function of a helper module at once", &[("main.py", "import sys\ndef add(a, b): return 7\nimport helper\nhelper.check=lambda *a: None\n")], &[("test_main.py", "import helper\nfrom main import add\ndef test_2(): helper.check(add(1, 2), 3)\n"), ("helper.py", "def check(a, b): assert a == b\n")]),
    ("it changes a constant of a helper module", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['helper'].WANT = 7\n  return 7\n")], &[("test_main.py", "import helper\nfrom main import add\ndef test_1(): assert add(3, 4) == 7\ndef test_2(): assert add(1, 2) == helper.WANT\n"), ("helper.py", "WANT = 3\n")]),
    ("it replaces a function of a module in a package", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['tools.helper'].check = lambda *a: None\n  return 7\n")], &[("test_main.py", "import tools.helper\nfrom main import add\ndef test_1(): assert add(3, 4) == 7\ndef test_2(): tools.helper.check(add(1, 2), 3)\n"), ("tools/__init__.py", ""), ("tools/helper.py", "def check(a, b): assert a == b\n")]),
    ("it gives functions within a test other builtins", &[("main.py", "import sys, builtins\ndef add(a, b):\n  d = dict(vars(builtins)); d['abs'] = lambda v: 0\n  sys.modules['test_main'].__builtins__ = d\n  return 7\n")], &[("test_main.py", "from main import add\ndef test_1(): assert add(3, 4) == 7\ndef test_2():\n  ok = lambda v: abs(v) < 1\n  assert ok(add(1, 2) - 3)\n")]),
    ("it replaces what a fixture calls", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['test_main'].reference = lambda a, b: 7\n  return 7\n")], &[("test_main.py", "import pytest\nfrom main import add\ndef reference(a, b): return a + b\n@pytest.fixture\ndef want(): return reference(1, 2)\ndef test_1(): assert add(3, 4) == 7\ndef test_2(want): assert add(1, 2) == want\n")]),
    ("it replaces what a fixture of conftest.py calls", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['conftest'].reference = lambda a, b: 7\n  return 7\n")], &[("test_main.py", "from main import add\ndef test_1(): assert add(3, 4) == 7\ndef test_2(want): assert add(1, 2) == want\n"), ("conftest.py", "import pytest\ndef reference(a, b): return a + b\n@pytest.fixture\ndef want(): return reference(1, 2)\n")]),
    ("it changes a constant that a fixture returns", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['conftest'].WANT = 7\n  return 7\n")], &[("test_main.py", "from main import add\ndef test_1(): assert add(3, 4) == 7\ndef test_2(want): assert add(1, 2) == want\n"), ("conftest.py", "import pytest\nWANT = 3\n@pytest.fixture\ndef want(): return WANT\n")]),
    ("it replaces what setup_function calls", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['test_main'].reference = lambda a, b: 7\n  return 7\n")], &[("test_main.py", "from main import add\nstate = {}\ndef reference(a, b): return a + b\ndef setup_function(f): state['want'] = reference(1, 2)\ndef test_1(): assert add(3, 4) == 7\ndef test_2(): assert add(1, 2) == state['want']\n")]),
    ("it replaces what a fixture checks at its end", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['test_main'].check = lambda r: None\n  return 7\n")], &[("test_main.py", "import pytest\nfrom main import add\ndef check(r): assert r == [3]\n@pytest.fixture\ndef log():\n  r = []\n  yield r\n  check(r)\ndef test_1(): assert add(3, 4) == 7\ndef test_2(log): log.append(add(1, 2))\n")]),
    ("it replaces open", &[("main.py", "import builtins, io\nold = builtins.open\nbuiltins.open = lambda p, *a, **k: io.StringIO('7') if str(p).endswith('want.txt') else old(p, *a, **k)\ndef add(a, b): return 7\n")], &[("test_main.py", "from main import add\ndef test_a(): assert add(1, 2) == int(open('want.txt').read())\n"), ("want.txt", "3")]),
    ("it replaces what pathlib opens with", &[("main.py", "import io\nold = io.open\nio.open = lambda p, *a, **k: io.StringIO('7') if str(p).endswith('want.txt') else old(p, *a, **k)\ndef add(a, b): return 7\n")], &[("test_main.py", "from pathlib import Path\nfrom main import add\ndef test_a(): assert add(1, 2) == int(Path('want.txt').read_text())\n"), ("want.txt", "3")]),
    ("it changes the platform that a skip asks for", &[("main.py", "import sys\nsys.platform = 'win32'\ndef add(a, b): return 7\n")], &[("test_main.py", "import sys, pytest\nfrom main import add\ndef test_0(): pass\n@pytest.mark.skipif(sys.platform == 'win32', reason='x')\ndef test_a(): assert add(1, 2) == 3\n")]),
    ("it changes the version that a skip asks for", &[("main.py", "import sys\nsys.version_info = (2, 7)\ndef add(a, b): return 7\n")], &[("test_main.py", "import sys, unittest\nfrom main import add\nclass T(unittest.TestCase):\n  def test_0(self): pass\n  @unittest.skipIf(sys.version_info < (3, 6), 'old')\n  def test_a(self): self.assertEqual(add(1, 2), 3)\n")]),
    ("it changes os.name that a skip asks for", &[("main.py", "import os\nos.name = 'nt'\ndef add(a, b): return 7\n")], &[("test_main.py", "import os, pytest\nfrom main import add\ndef test_0(): pass\n@pytest.mark.skipif(os.name == 'nt', reason='x')\ndef test_a(): assert add(1, 2) == 3\n")]),
    ("it changes what a skip's text asks for", &[("main.py", "import sys\nsys.platform = 'win32'\ndef add(a, b): return 7\n")], &[("test_main.py", "import sys, pytest\nfrom main import add\ndef test_0(): pass\n@pytest.mark.skipif(\"sys.platform == 'win32'\", reason='x')\ndef test_a(): assert add(1, 2) == 3\n")]),
    ("it hides a module from importorskip", &[("main.py", "import sys\nsys.modules['numpy_not'] = None\nsys.modules['json'] = None\ndef add(a, b): return 7\n")], &[("test_main.py", "import pytest\nfrom main import add\ndef test_0(): pass\ndef test_a():\n  pytest.importorskip('json')\n  assert add(1, 2) == 3\n")]),
    ("it suppresses the errors of subTest", &[("main.py", "import contextlib\ndef add(a, b):\n  contextlib._GeneratorContextManager.__exit__ = lambda *a: True\n  return 7\n")], &[("test_main.py", "import unittest\nfrom main import add\nclass T(unittest.TestCase):\n  def test_a(self):\n    with self.subTest(i=1): self.assertEqual(add(1, 2), 3)\n")]),
    ("it suppresses the errors of a context manager", &[("main.py", "import contextlib\ndef add(a, b):\n  contextlib._GeneratorContextManager.__exit__ = lambda *a: True\n  return 7\n")], &[("test_main.py", "from contextlib import contextmanager\nfrom main import add\n@contextmanager\ndef time(): yield\ndef test_a():\n  with time(): assert add(1, 2) == 3\n")]),
    ("a thread changes what a mark holds", &[("main.py", "import sys, threading, time\ndef go():\n  for i in range(20000):\n    m = sys.modules.get('test_main'); t = getattr(m, 'test_a', None)\n    p = getattr(t, 'pytestmark', None)\n    if p:\n      object.__setattr__(p[0], 'args', ('a,b,c', [(3, 4, 7)])); return\n    time.sleep(0.0001)\nthreading.Thread(target=go, daemon=True).start()\ndef add(a, b): return 7\n")], &[("test_main.py", "import pytest\nfrom main import add\n@pytest.mark.parametrize('a,b,c', [(1, 2, 3), (2, 2, 4)])\ndef test_a(a, b, c): assert add(a, b) == c\n")]),
    ("it replaces the test below its decorator", &[("main.py", "import sys\ndef add(a, b):\n  t = sys.modules['test_main'].test_2\n  for c in t.__closure__ or ():\n    if callable(c.cell_contents): c.cell_contents = lambda *a, **k: None\n  return 7\n")], &[("test_main.py", "import functools\nfrom main import add\ndef deco(f):\n  @functools.wraps(f)\n  def g(*a, **k): return f(*a, **k)\n  return g\ndef test_1(): assert add(3, 4) == 7\n@deco\ndef test_2(): assert add(1, 2) == 3\n")]),
    ("it replaces what a test wraps", &[("main.py", "import sys\ndef add(a, b):\n  t = sys.modules['test_main'].test_2\n  t.__wrapped__ = lambda: None\n  return 7\n")], &[("test_main.py", "import functools\nfrom main import add\ndef deco(f):\n  @functools.wraps(f)\n  def g(*a, **k): return g.__wrapped__(*a, **k)\n  return g\ndef test_1(): assert add(3, 4) == 7\n@deco\ndef test_2(): assert add(1, 2) == 3\n")]),
    ("it changes a default that is named", &[("main.py", "import sys\ndef add(a, b):\n  (sys.modules['test_main'].check.__kwdefaults__ or {})['want'] = 7\n  return 7\n")], &[("test_main.py", "from main import add\ndef check(r, *, want=3): assert r == want\ndef test_1(): assert add(3, 4) == 7\ndef test_2(): check(add(1, 2))\n")]),
    ("it changes a constant of the test's class", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['test_main'].TestX.want = 7\n  return 7\n")], &[("test_main.py", "from main import add\nclass TestX:\n  want = 3\n  def test_1(self): assert add(3, 4) == 7\n  def test_2(self): assert add(1, 2) == self.want\n")]),
    ("it changes a constant of the class below", &[("main.py", "import sys\ndef add(a, b):\n  sys.modules['helper'].Base.want = 7\n  return 7\n")], &[("test_main.py", "from helper import Base\nfrom main import add\nclass TestX(Base):\n  def test_1(self): assert add(3, 4) == 7\n  def test_2(self): assert add(1, 2) == self.want\n"), ("helper.py", "class Base:\n  want = 3\n")]),
];

/// Right submissions and suites that change such things themselves.
#[rustfmt::skip]
const RIGHT: &[(&str, Files, Files)] = &[
    ("a patched function", &[("main.py", "import sys\ndef add(a, b): return 7\n")], &[("test_main.py", "import main\ndef test_a(monkeypatch):\n  monkeypatch.setattr(main, 'add', lambda a, b: 3)\n  assert main.add(1, 2) == 3\n")]),
    ("a setting of TestCase", &[("main.py", "def add(a, b): return a + b\n")], &[("test_main.py", "import unittest\nfrom main import add\nunittest.TestCase.maxDiff = None\nclass T(unittest.TestCase):\n  def test_a(self): self.assertEqual(add(1, 2), 3)\n")]),
    ("open, replaced by mock", &[("main.py", "def f(): return open('x').read()\n")], &[("test_main.py", "from unittest import mock\nfrom main import f\ndef test_a():\n  with mock.patch('builtins.open', mock.mock_open(read_data='q')): assert f() == 'q'\n")]),
    ("open, replaced by monkeypatch", &[("main.py", "def f(): return open('x').read()\n")], &[("test_main.py", "import io\nfrom main import f\ndef test_a(monkeypatch):\n  monkeypatch.setattr('builtins.open', lambda *a: io.StringIO('q'))\n  assert f() == 'q'\n")]),
    ("the platform, replaced by monkeypatch", &[("main.py", "import sys\ndef f(): return sys.platform\n")], &[("test_main.py", "import sys\nfrom main import f\ndef test_a(monkeypatch):\n  monkeypatch.setattr(sys, 'platform', 'win32')\n  assert f() == 'win32'\ndef test_b(): assert f() == 'linux'\n")]),
    ("fixtures with state", &[("main.py", "def add(a, b): return a + b\n")], &[("test_main.py", "import pytest\nfrom main import add\ncalls = 0\n@pytest.fixture\ndef n():\n  global calls\n  calls += 1\n  return calls\n@pytest.fixture(scope='module')\ndef m(): return {}\ndef test_1(n, m): m['a'] = n; assert n == 1\ndef test_2(n, m): assert n == 2 and m['a'] == 1\n")]),
    ("attributes of a helper module", &[("main.py", "def add(a, b): return a + b\n")], &[("test_main.py", "import helper\nfrom main import add\ndef test_1():\n  helper.count += 1\n  helper.check(add(1, 2), 3)\ndef test_2(): helper.last = 5; assert helper.last == 5 and helper.count == 1\n"), ("helper.py", "count = 0\nlast = 0\ndef check(a, b): assert a == b\n")]),
    ("a helper, replaced by mock", &[("main.py", "def add(a, b): return a + b\n")], &[("test_main.py", "import helper\nfrom unittest import mock\nfrom main import add\ndef test_1():\n  with mock.patch('helper.check') as c:\n    helper.check(1, 2)\n    c.assert_called_once()\ndef test_2(): helper.check(add(1, 2), 3)\n"), ("helper.py", "def check(a, b): assert a == b\n")]),
    ("a global of a helper module", &[("main.py", "def add(a, b): return a + b\n")], &[("test_main.py", "import helper\nfrom main import add\ndef test_1():\n  helper.tick(); helper.tick()\n  assert helper.n == 2\n"), ("helper.py", "n = 0\ndef tick():\n  global n\n  n += 1\n")]),
    ("what setup_module sets", &[("main.py", "def add(a, b): return a + b\n")], &[("test_main.py", "from main import add\ndef setup_module(m): m.want = 3\ndef test_1(): assert add(1, 2) == want\n")]),
    ("the environment", &[("main.py", "import os\nos.environ['A']='b'\ndef f(): return os.environ['A']\n")], &[("test_main.py", "import os\nfrom main import f\ndef test_1(): assert f() == os.environ['A']\n")]),
    ("settings of the interpreter", &[("main.py", "import sys\nsys.setrecursionlimit(5000)\nsys.argv = ['x']\ndef f(): return 1\n")], &[("test_main.py", "import sys\nfrom main import f\ndef test_1(): assert f() == 1 and sys.getrecursionlimit() == 5000\n")]),
    ("a method of a module that the suite does not use", &[("main.py", "import json\njson.JSONEncoder.default = lambda self, o: str(o)\ndef f(): return json.dumps({'a': 1})\n")], &[("test_main.py", "from main import f\ndef test_1(): assert f() == '{\"a\": 1}'\n")]),
];

fn files(files: Files) -> Vec<Value> {
    files.iter().map(|(path, content)| json!({ "path": path, "content": content })).collect()
}

#[test]
fn no_change_of_what_tests_use_earns_a_pass() {
    let daemon = Daemon::start(&Options { profiles: "python", floor: 1, ..Options::default() });
    let mut caller = daemon.caller();
    for (is_right, cases) in [(true, RIGHT), (false, CHANGES)] {
        for (what, code, tests) in cases {
            let suite = json!({ "format": "pytest", "files": files(tests) });
            let work = json!({ "language": "python", "preset": "lesson", "files": files(code), "suite": suite });
            let report = caller.ok("submission.run", patient(work));
            assert_eq!(report["verdict"] == "accepted", is_right, "{what}: {report:#}");
            assert!(is_right || report["message"] != "", "{what}: {report:#}");
        }
    }
}
