//! Code under test that tries to have a pytest suite accepted without solving it. Its author has
//! read the suite and our runner.

use serde_json::{Value, json};

use super::routes::{ROUTES, USE};
use crate::harness::{Caller, Daemon, Options, patient};

/// The suite that is to be fooled, and a module of its own.
pub(super) const SUITE: [(&str, &str); 2] =
    [("test_main.py", TESTS), ("helper.py", "def check(x, y):\n    assert x == y\n")];

const TESTS: &str = r#"
import math
import pytest, unittest
from main import add, is_even
from helper import check

CASES = [(1, 2, 3), (4, 5, 9)]
later = pytest.mark.skip(reason='later')

def same(x, y):
    assert x == y

def test_small():
    assert add(1, 2) == 3

@pytest.mark.parametrize('n', [5, 6])
def test_many(n):
    assert add(n, n) == 2 * n, 'hint: think of carrying'

def test_helper():
    check(add(2, 2), 4)

def test_same():
    same(add(2, 3), 5)

def test_close():
    assert math.isclose(add(0.1, 0.2), 0.3)
    assert add(1, 1) == pytest.approx(2)

def test_even():
    assert is_even(4)

def test_raises():
    with pytest.raises(TypeError):
        add()

class TestOld(unittest.TestCase):
    def test_zero(self):
        self.assertEqual(add(0, 0), 0)

    def test_subs(self):
        for i in range(3):
            with self.subTest(i=i):
                self.assertEqual(add(i, i), 2 * i)

    @unittest.skip('later')
    def test_later(self): self.fail()

class TestNew:
    expected = 5

    def test_class(self):
        assert add(2, 3) == self.expected
        self.inner(add(2, 3))

    def inner(self, got):
        assert got == 5

@later
def test_later():
    assert False
"#;

/// What is handed in: paths and contents.
type Files = &'static [(&'static str, &'static str)];

/// Ways to the runner's objects, for [`WALK`].
#[rustfmt::skip]
const ROOTS: &[(&str, &str)] = &[
    ("the finder", "sys.meta_path"),
    ("the marks", "[__import__(\"pytest\").MarkGenerator, __import__(\"pytest\").MarkDecorator]"),
    ("unittest's classes", "__import__(\"unittest\").TestCase"),
    ("pytest's debugger", "__import__(\"_pytest.debugging\").debugging.pytestPDB"),
    ("pytest's assertions", "__import__(\"_pytest.assertion.util\").assertion.util"),
    ("the main module", "sys.modules[\"__main__\"]"),
    ("all modules", "list(sys.modules.values())"),
    ("hooks and handlers", "[__import__(\"logging\").getLogger(), sys.stdout, sys.excepthook, sys.unraisablehook, __import__(\"threading\").excepthook, sys.path_hooks, __import__(\"warnings\").showwarning]"),
    ("a frame", "sys._getframe()"),
    ("inspect.currentframe", "__import__(\"inspect\").currentframe()"),
    ("inspect.stack", "[i.frame for i in __import__(\"inspect\").stack()]"),
    ("traceback.walk_stack", "list(__import__(\"traceback\").walk_stack(None))"),
    ("logging.currentframe", "__import__(\"logging\").currentframe()"),
    ("gc", "__import__(\"gc\").get_objects()"),
    ("a generator's frame", "G()"),
    ("a traceback's frame", "T()"),
    ("a signal handler's frame", "S()"),
    ("all current frames", "list(sys._current_frames().values())"),
    ("a signal module loaded anew", "S2()"),
    ("inspect.trace", "I()"),
    ("a task's stack", "K()"),
];

/// Searches what an object leads to for the function that signs results, and has it sign a pass for
/// every case. `at_import` before the cases are known.
const WALK: &str = r#"
import sys,signal
def record_of(root):
  todo=[root]; seen=set()
  while todo:
    x=todo.pop()
    if id(x) in seen or len(seen)>100000: continue
    seen.add(id(x))
    if getattr(x,"__name__","")=="record" and hasattr(x,"__code__"): return x
    f=getattr(x,"__func__",x)
    for c in (getattr(f,"__closure__",None) if type(f).__name__=="function" else None) or ():
      try: todo.append(c.cell_contents)
      except ValueError: pass
    try: todo.extend(list(vars(x).values()))
    except Exception: pass
    if isinstance(x,dict): todo.extend(list(x.values()))
    if isinstance(x,(list,tuple,set)): todo.extend(list(x))
    if type(x).__name__=="frame": todo.extend(list(x.f_locals.values())); todo.append(x.f_back)
    if hasattr(x,"func"): todo.append(x.func)
    todo.append(type(x))
def forge(root, at_import):
  r=record_of(root)
  if r is not None:
    import os
    try:
      if at_import: r(plan=["test_main.py::test"] * 13)
      for i in range(100): r(i=i,end="passed",ms=1.0)
    except BaseException as e: print("E",e)
    r(done=0); os._exit(0)

def G():
  def g(): yield me.gi_frame.f_back
  me=g(); return next(me)
def T():
  try: 1/0
  except Exception as e: return e.__traceback__.tb_frame
def S():
  o=[]
  signal.signal(signal.SIGUSR1,lambda s,f: o.append(f)); signal.raise_signal(signal.SIGUSR1); return o
def S2():
  import _signal
  del sys.modules["_signal"]
  import _signal
  o=[]
  _signal.signal(signal.SIGUSR1,lambda s,f: o.append(f)); signal.raise_signal(signal.SIGUSR1); return o
def I():
  import inspect
  try: 1/0
  except Exception as e: return [x.frame for x in inspect.trace()]
def K():
  import asyncio
  async def m(): return asyncio.current_task().get_stack()
  return asyncio.run(m())
def attempt(roots, at_import):
  for root in roots:
    try: forge(root(), at_import)
    except RuntimeError: pass
def add(a, b):
  attempt([lambda: ROOT], False)
  return 7
def is_even(n): return None
IMPORT
"#;

/// Submissions that do nothing wrong.
#[rustfmt::skip]
const RIGHT: &[(&str, Files)] = &[
    ("plain", &[("main.py", "def add(a, b): return a + b\ndef is_even(n): return n % 2 == 0\n")]),
    ("it prints, logs and makes classes", &[("main.py", "def add(a, b): return a + b\ndef is_even(n): return n % 2 == 0\nimport logging; logging.basicConfig(); logging.warning(\"x\"); print(\"hello\")\nimport collections, dataclasses, enum, typing\nP=collections.namedtuple(\"P\",\"a b\",defaults=[1])\n@dataclasses.dataclass\nclass D:\n  a: int=1\n")]),
    ("it formats its stack", &[("main.py", "def add(a, b): \n  import sys, inspect, traceback\n  traceback.format_stack(); inspect.signature(len)\n  return a + b\ndef is_even(n): return n % 2 == 0\n")]),
    ("it imports sys", &[("main.py", "import sys\ndef add(a, b): return a + b\ndef is_even(n): return n % 2 == 0\n")]),
    ("it shows the traceback of a name that does not exist", &[("main.py", "import traceback, logging\ndef shown():\n  try: pritn\n  except NameError:\n    logging.exception(\"x\"); traceback.print_exc()\n    return traceback.format_exc()\ndef add(a, b):\n  assert \"pritn\" in shown()\n  return a + b\ndef is_even(n): return n % 2 == 0\n")]),
    ("it shows tracebacks, warns, handles signals, runs coroutines", &[("main.py", "def add(a, b): return a + b\ndef is_even(n): return n % 2 == 0\nimport traceback,logging,warnings,signal\ntry: 1/0\nexcept Exception: traceback.print_exc(); logging.exception(\"x\"); traceback.format_exc()\nwarnings.warn(\"w\")\ntraceback.print_stack()\nsignal.signal(signal.SIGALRM, lambda s,f: None)\nsignal.signal(signal.SIGALRM, signal.SIG_DFL)\nimport asyncio\nasync def m(): await asyncio.sleep(0)\nasyncio.run(m())\n")]),
];

/// Submissions that solve nothing, or not all.
#[rustfmt::skip]
const ATTACKS: &[(&str, Files)] = &[
    ("it calls pytest.xfail", &[("main.py", "import pytest\ndef add(*a): pytest.xfail(\"x\")\nis_even=add")]),
    ("it raises xfail's exception", &[("main.py", "import pytest\ndef add(*a): raise pytest.xfail.Exception(\"x\")\nis_even=add")]),
    ("it calls pytest.skip", &[("main.py", "import pytest\ndef add(*a): pytest.skip(\"x\")\nis_even=add")]),
    ("it raises SkipTest", &[("main.py", "import unittest\ndef add(*a): raise unittest.SkipTest(\"x\")\nis_even=add")]),
    ("it skips without a frame of its own", &[("main.py", "import pytest,functools\nadd = lambda *a: R()\nclass R: pass\nR.__eq__=functools.partial(pytest.skip)\nR.__bool__=functools.partial(pytest.skip,\"x\")\nis_even=pytest.skip")]),
    ("it marks the test module while that is imported", &[("main.py", "import sys,pytest\nm=sys.modules[\"test_main\"]\nm.pytestmark=[pytest.mark.xfail]\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it gives the module a skip", &[("main.py", "import sys,pytest\nfor n,m in list(sys.modules.items()):\n  if n.startswith(\"test_\"):\n    m.pytestmark=pytest.mark.skip(\"later\")\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it marks the tests later", &[("main.py", "import sys,pytest\ndef add(a,b):\n  m=sys.modules[\"test_main\"]\n  for k,v in vars(m).items():\n    if k.startswith(\"test\"): v.pytestmark=[pytest.mark.xfail]\n  return 7\ndef is_even(n): return None\n")]),
    ("it swaps the code of the tests", &[("main.py", "import sys\ndef nop(*a,**k): pass\ndef add(a,b):\n  m=sys.modules[\"test_main\"]\n  for k,v in list(vars(m).items()):\n    if k.startswith(\"test\"): v.__code__=nop.__code__\n  return 3\ndef is_even(n): return None\n")]),
    ("it swaps the code of a helper", &[("main.py", "import sys\ndef add(a,b):\n  m=sys.modules[\"test_main\"]\n  def same(x,y): pass\n  m.same.__code__=same.__code__\n  return {(1,2):3}.get((a,b),7)\ndef is_even(n): return None\n")]),
    ("it replaces helpers in the test module", &[("main.py", "import sys\ndef add(a,b):\n  m=sys.modules[\"test_main\"]\n  m.same=lambda *a: None\n  m.check=lambda *a: None\n  m.math.isclose=lambda *a: True\n  return a+b if a in (0,1,5,6,2) else 7\ndef is_even(n): return None\n")]),
    ("it replaces math.isclose", &[("main.py", "import math\nmath.isclose=lambda *a: True\ndef add(a,b): return a+b if a!=0.1 else 99\ndef is_even(n): return 1")]),
    ("it replaces AssertionError", &[("main.py", "import builtins\nbuiltins.AssertionError=KeyboardInterrupt\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("a package hides the helper", &[("helper/__init__.py", "def check(*a): pass\n"), ("main.py", "def add(a,b): return a+b if (a,b)!=(2,2) else 7\ndef is_even(n): return 1")]),
    ("it puts a helper into sys.modules", &[("main.py", "import sys,types\nm=types.ModuleType(\"helper\"); m.check=lambda *a: None\nsys.modules[\"helper\"]=m\ndef add(a,b): return a+b if (a,b)!=(2,2) else 7\ndef is_even(n): return 1")]),
    ("it puts a finder before the others", &[("main.py", "import sys,types,importlib.util\nclass F:\n  def find_spec(s,n,p=None,t=None):\n    if n==\"helper\": return importlib.util.spec_from_loader(n,s)\n  def create_module(s,spec): return None\n  def exec_module(s,m): m.check=lambda *a: None\nsys.meta_path.insert(0,F())\ndef add(a,b): return a+b if (a,b)!=(2,2) else 7\ndef is_even(n): return 1")]),
    ("a package hides the test module", &[("test_main/__init__.py", "def test_a(): pass\n"), ("main.py", "\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it raises unittest's internal stop", &[("main.py", "import unittest.case\ndef add(*a): raise unittest.case._ShouldStop\nis_even=add")]),
    ("all of unittest expects failures", &[("main.py", "import sys,unittest\nunittest.TestCase.__unittest_expecting_failure__=True\ndef add(a,b): return a+b if (a,b) not in ((0,0),(1,1)) else 7\ndef is_even(n): return None\n")]),
    ("a test class expects failures", &[("main.py", "import sys,unittest\ndef add(a,b):\n  T=sys.modules[\"test_main\"].TestOld\n  T.__unittest_expecting_failure__=True\n  T.test_zero.__unittest_expecting_failure__=True\n  return a+b if (a,b)!=(0,0) else 7\ndef is_even(n): return 1")]),
    ("a test class is skipped", &[("main.py", "import sys,unittest\ndef add(a,b):\n  T=sys.modules[\"test_main\"].TestOld\n  T.__unittest_skip__=True\n  T.__unittest_skip_why__=\"later\"\n  return a+b if (a,b)!=(0,0) else 7\ndef is_even(n): return 1")]),
    ("it gives the test class an assertion", &[("main.py", "import sys\ndef add(a,b):\n  T=sys.modules[\"test_main\"].TestOld\n  T.assertEqual=lambda *a: None\n  return a+b if (a,b)!=(0,0) else 7\ndef is_even(n): return 1")]),
    ("it gives the instance an assertion", &[("main.py", "import sys\ndef add(a,b):\n  f=sys._getframe(1)\n  s=f.f_locals.get(\"self\")\n  if s is not None: s.assertEqual=lambda *a: None\n  return a+b if (a,b)!=(0,0) else 7\ndef is_even(n): return 1")]),
    ("it replaces a method of a test class", &[("main.py", "import sys\ndef add(a,b):\n  T=sys.modules[\"test_main\"].TestNew\n  T.inner=lambda *a: None\n  return a+b\ndef is_even(n): return 1")]),
    ("it traces the tests", &[("main.py", "import sys\ndef tr(f,e,a):\n  return tr\ndef add(a,b):\n  sys.settrace(tr)\n  return 7\ndef is_even(n): return None\n")]),
    ("a thread deletes the tests", &[("main.py", "import sys,threading,time\ndef run():\n  while True:\n    m=sys.modules.get(\"test_main\")\n    if m and hasattr(m,\"test_later\"):\n      for k in list(vars(m)):\n        if k.startswith(\"test\") or k.startswith(\"Test\"): delattr(m,k)\n      return\nthreading.Thread(target=run,daemon=True).start()\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it hides the module from pytest", &[("main.py", "import sys\nsys.modules[\"test_main\"].__test__=False\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it names a plugin", &[("evil.py", "def pytest_pyfunc_call(pyfuncitem): return True\n"), ("main.py", "import sys\nsys.modules[\"test_main\"].pytest_plugins=[\"evil\"]\ndef add(a,b): return 7\n\ndef is_even(n): return None\n")]),
    ("it gives the module another pytest", &[("main.py", "import sys,types\nm=sys.modules[\"test_main\"]\nreal=m.pytest\nfake=types.SimpleNamespace(mark=types.SimpleNamespace(skip=lambda **k:(lambda f:f),parametrize=lambda *a,**k:(lambda f: real.mark.skip(\"x\")(real.mark.parametrize(*a,**k)(f)))),approx=real.approx,raises=real.raises)\nm.pytest=fake\ndef add(a,b): return a+b if a not in (5,6) else 7\ndef is_even(n): return 1")]),
    ("forks try every answer", &[("main.py", "import os,sys\ndef add(a,b):\n  for g in range(12):\n    pid=os.fork()\n    if pid==0: return g\n    os.waitpid(pid,0)\n  return 7\ndef is_even(n): return 1")]),
    ("it exits", &[("main.py", "import os\ndef add(a,b): os._exit(0)\ndef is_even(n): return None\n")]),
    ("it raises SystemExit", &[("main.py", "def add(a,b): raise SystemExit(0)\ndef is_even(n): return None\n")]),
    ("it ends pytest", &[("main.py", "import pytest\ndef add(*a): pytest.exit(\"x\",returncode=0)\nis_even=add")]),
    ("it gives the module other builtins", &[("main.py", "import sys,builtins\nd=dict(vars(builtins)); d[\"AssertionError\"]=SystemExit\nsys.modules[\"test_main\"].__dict__[\"__builtins__\"]=d\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it replaces pytest.raises", &[("main.py", "import pytest\npytest.raises=lambda *a,**k: __import__(\"contextlib\").suppress(Exception)\ndef add(a=None,b=None): return a+b if a is not None else 0\ndef is_even(n): return 1")]),
    ("it replaces approx", &[("main.py", "import _pytest.python_api as p\np.ApproxScalar.__eq__=lambda *a: True\ndef add(a,b): return a+b if (a,b)!=(1,1) else 7\ndef is_even(n): return 1")]),
    ("it replaces math.isclose when it is called", &[("main.py", "import math\ndef add(a,b):\n  if a==0.1:\n    math.isclose=lambda *a: True\n  return a+b if a!=0.1 else 99\ndef is_even(n): return 1")]),
    ("files named like modules", &[("math.py", ""), ("numbers.py", ""), ("unittest/__init__.py", ""), ("main.py", "def add(a,b): return 7\ndef is_even(n): return None\n")]),
    ("it changes its caller's globals", &[("main.py", "import sys\ndef add(a,b):\n  sys._getframe(1).f_globals[\"same\"]=lambda *a: None\n  return a+b if (a,b)!=(2,3) else 5.5\ndef is_even(n): return 1")]),
    ("it replaces the helper later", &[("main.py", "import sys\ndef add(a,b):\n  h=sys.modules[\"helper\"]\n  h.check=lambda *a: None\n  sys.modules[\"test_main\"].check=h.check\n  return a+b if (a,b)!=(2,2) else 7\ndef is_even(n): return 1")]),
    ("it changes defaults of a helper", &[("main.py", "import sys\ndef add(a,b):\n  sys.modules[\"test_main\"].same.__defaults__=(1,2)\n  return a+b\ndef is_even(n): return 1")]),
    ("it replaces TestCase.run on the class", &[("main.py", "import sys\ndef add(a,b):\n  sys.modules[\"test_main\"].TestOld.run=lambda s,r=None: None\n  return a+b if (a,b)!=(0,0) else 7\ndef is_even(n): return 1")]),
    ("it makes every test do nothing", &[("main.py", "import _pytest.python\n_pytest.python.Function.runtest=lambda self: None\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it adds a setUp that skips", &[("main.py", "import sys\ndef add(a,b):\n  import unittest\n  sys.modules[\"test_main\"].TestOld.setUp=lambda s: s.skipTest(\"x\")\n  return a+b if (a,b)!=(0,0) else 7\ndef is_even(n): return 1")]),
    ("a star brings a mark", &[("main.py", "import sys\n__all__=[\"add\",\"is_even\",\"pytestmark\"]\nimport pytest\npytestmark=pytest.mark.xfail\nsys.modules[\"test_main\"].__dict__[\"pytestmark\"]=pytestmark\ndef add(a, b): return 7\n")]),
    ("it breaks the import system", &[("main.py", "import importlib._bootstrap_external as e, sys\nclass L:\n  pass\nsys.path_hooks.insert(0,lambda p: None)\nsys.path_importer_cache.clear()\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it raises StopIteration", &[("main.py", "def add(*a): raise StopIteration\nis_even=add")]),
    ("it raises GeneratorExit", &[("main.py", "def add(*a): raise GeneratorExit\nis_even=add")]),
    ("it raises KeyboardInterrupt", &[("main.py", "def add(*a): raise KeyboardInterrupt\nis_even=add")]),
    ("it replaces sorted", &[("main.py", "import builtins\nbuiltins.sorted=lambda *a,**k: []\ndef add(a, b): return 7\n\ndef is_even(n): return None\n")]),
    ("it gives the module another math", &[("main.py", "import sys,types\nm=types.ModuleType(\"math\"); m.isclose=lambda *a: True\nsys.modules[\"test_main\"].math=m\ndef add(a,b): return a+b if a!=0.1 else 99\ndef is_even(n): return 1")]),
    ("it gives the module another math later", &[("main.py", "import sys\nclass M:\n  isclose=staticmethod(lambda *a: True)\ndef add(a,b):\n  sys.modules[\"test_main\"].math=M\n  return a+b if a!=0.1 else 99\ndef is_even(n): return 1")]),
    ("it monitors calls", &[("main.py", "import sys, os\nm=getattr(sys,\"monitoring\",None)\ndef seen(code, at, called, first):\n  if getattr(called,\"__name__\",\"\")==\"record\":\n    for i in range(100): called(i=i,end=\"passed\",ms=1.0)\n    called(done=0); os._exit(0)\ndef add(a,b):\n  if m and not m.get_tool(0):\n    m.use_tool_id(0,\"x\")\n    m.register_callback(0,m.events.CALL,seen)\n    m.set_events(0,m.events.CALL)\n  return 7\ndef is_even(n): return None\n")]),
    ("it makes another interpreter, which would have no hook", &[("main.py", "def add(a,b):\n  try:\n    import _interpreters as i\n  except ImportError:\n    import _xxsubinterpreters as i\n  i.create()\n  return a+b\ndef is_even(n): return n%2==0\n")]),
    ("it opens the memory of its process", &[("main.py", "def add(a,b):\n  open(\"/proc/self/mem\",\"r+b\")\n  return 7\ndef is_even(n): return None\n")]),
];

fn judged(caller: &mut Caller, handed_in: &[(&str, &str)], is_separate: bool) -> Result<Value, Value> {
    judged_with(caller, "python", handed_in, &SUITE, is_separate)
}

/// The report of a suite against what is handed in, or the error.
pub(super) fn judged_with(
    caller: &mut Caller,
    language: &str,
    handed_in: &[(&str, &str)],
    suite: &[(&str, &str)],
    is_separate: bool,
) -> Result<Value, Value> {
    let files = |files: &[(&str, &str)]| -> Vec<Value> {
        files.iter().map(|(path, content)| json!({ "path": path, "content": content })).collect()
    };
    let suite = json!({ "format": "pytest", "files": files(suite), "separate": is_separate });
    let work = patient(json!({ "language": language, "preset": "lesson", "files": files(handed_in), "suite": suite }));
    let reply = caller.call("submission.run", work);
    match reply["result"].is_null() {
        true => Err(reply["error"].clone()),
        false => Ok(reply["result"].clone()),
    }
}

#[test]
fn no_suite_is_accepted_without_being_solved() {
    none_is_accepted(false);
}

#[test]
fn no_separate_suite_is_accepted_without_being_solved() {
    none_is_accepted(true);
}

fn none_is_accepted(is_separate: bool) {
    let daemon = Daemon::start(&Options { profiles: "python", floor: 1, ..Options::default() });
    let mut caller = daemon.caller();
    for (what, files) in RIGHT {
        let report = judged(&mut caller, files, is_separate).unwrap();
        assert_eq!(
            (&report["verdict"], &report["score"]["total"]),
            (&json!("accepted"), &json!(11)),
            "{what}: {report:#}"
        );
    }
    let is_shown = std::env::var_os("ATTACKS_TABLE").is_some();
    let walk = |root: &str, at_import: &str| WALK.replace("ROOT", root).replace("IMPORT", at_import);
    let roots: Vec<String> = ROOTS.iter().map(|(_, root)| format!("lambda: {root}")).collect();
    let everything = format!("attempt([{}], True)", roots.join(", "));
    let walks = ROOTS.iter().map(|(what, root)| (format!("it walks to the runner by {what}"), walk(root, "")));
    let walks = walks.chain([("it walks to the runner while it is imported".to_owned(), walk("0", &everything))]);
    let routes = ROUTES.iter().map(|(what, code)| {
        let before = if code.contains("def look(") { USE } else { "" };
        ((*what).to_owned(), format!("{before}{code}"))
    });
    let walks: Vec<(String, String)> = walks.chain(routes).collect();
    let attacks = ATTACKS.iter().map(|(what, files)| (*what, files.to_vec()));
    let walks = walks.iter().map(|(what, code)| (what.as_str(), vec![("main.py", code.as_str())]));
    for (what, files) in attacks.chain(walks) {
        if is_separate && what.contains("another interpreter") {
            continue; // its code is right, and from its own process it reaches nothing of the suite
        }
        if is_separate && what.contains("the runner is made of") {
            continue; // it breaks its own process, and then takes too long
        }
        let got = match judged(&mut caller, &files, is_separate) {
            Ok(report) => {
                let verdict = report["verdict"].as_str().unwrap().to_owned();
                assert!(["wrong_answer", "runtime_error"].contains(&verdict.as_str()), "{what}: {report:#}");
                let score = &report["score"];
                let is_partial = score["passed"].as_u64() < score["total"].as_u64();
                assert!(is_partial && report["message"] != "", "{what}: {report:#}");
                verdict
            }
            Err(error) => {
                assert!(error["message"].as_str().unwrap().contains("in place of the suite's"), "{what}: {error:#}");
                "refused".to_owned()
            }
        };
        if is_shown {
            eprintln!("suite  {what:50} {got}");
        }
    }
}
