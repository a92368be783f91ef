//! Suites with marks, and code that changes what is marked.

use super::{Attempts, SESSION};

/// A suite with marks of several kinds and a skip of its own.
pub(super) const MARKS: &str = r#"
import pytest, sys, unittest
from main import add, is_even
def need(): pytest.skip('needs it')
@pytest.mark.slow
def test_slow(): assert add(1, 2) == 3
@pytest.mark.skipif(sys.version_info < (3, 0), reason='old')
def test_cond(): assert add(2, 2) == 4
@pytest.mark.xfail(sys.version_info < (3, 0), reason='old')
def test_xcond(): assert add(2, 5) == 7
later = pytest.mark.skip(reason='later')
@later
def test_later(): assert False
def test_needs(): need()
def test_even(): assert is_even(4)
def test_last(): assert add(3, 3) == 6
def test_z(): assert add(1, 1) == 2
"#;

#[rustfmt::skip]
pub(super) const ON_MARKS: Attempts = &[
    (
        "it replaces the evaluation of skip marks once",
        "",
        r#"import _pytest.skipping as P
old=P.evaluate_skip_marks
n=[0]
def evil(item):
    if item.name=='test_cond':
        P.evaluate_skip_marks=old
        return P.Skip('x')
    return old(item)
P.evaluate_skip_marks=evil
def add(a,b): return 9 if (a,b)==(2,2) else a+b
def is_even(n): return n%2==0"#,
    ),
    (
        "it replaces the evaluation of xfail marks once",
        "",
        r#"import _pytest.skipping as P
old=P.evaluate_xfail_marks
def evil(item):
    if item.name=='test_xcond':
        P.evaluate_xfail_marks=old
        return P.Xfail('x',True,False,None)
    return old(item)
P.evaluate_xfail_marks=evil
def add(a,b): return 9 if (a,b)==(2,5) else a+b
def is_even(n): return n%2==0"#,
    ),
    (
        "it raises the suite's own skip through C functions",
        "",
        r#"import sys, collections, _asyncio, asyncio
def add(a,b): return a+b
loop=asyncio.new_event_loop()
fut=_asyncio.Future(loop=loop)
def prepare():
    m=sys.modules['test_main']
    try: m.need()
    except BaseException as e:
        tb=e.__traceback__.tb_next
        fut.set_exception(e.with_traceback(tb))
class D(collections.defaultdict): pass
def factory(): return None
d=collections.defaultdict(fut.result)
is_even=d.__getitem__
def add(a,b):
    if not fut.done(): prepare()
    return a+b"#,
    ),
    (
        "it renames a mark",
        "",
        r#"import sys
def add(a,b): return a+b if (a,b)!=(1,2) else 9
def is_even(n): return n%2==0
import inspect
_old=inspect.isclass
def _f(o):
    m=sys.modules.get('test_main')
    if m is not None and hasattr(m,'test_z'):
        inspect.isclass=_old
        object.__setattr__(m.test_slow.pytestmark[0],'name','skip')
    return _old(o)
inspect.isclass=_f"#,
    ),
    (
        "the item has a chain of its own",
        SESSION,
        r#"def add(a,b):
    m=sys.modules['test_main']
    for i in S[0].items:
        if i.name in ('test_last','test_z','test_even'):
            i.listchain=lambda: []
            i.own_markers.append(m.later.mark)
    return a+b if (a,b) in ((1,2),(2,2),(2,5)) else 9
def is_even(n): return None"#,
    ),
    (
        "iter_markers of its own",
        SESSION,
        r#"def add(a,b):
    m=sys.modules['test_main']
    for i in S[0].items:
        if i.name in ('test_last','test_z','test_even'):
            i.iter_markers=lambda name=None: [m.later.mark] if name in (None,'skip') else []
    return a+b if (a,b) in ((1,2),(2,2),(2,5)) else 9
def is_even(n): return None"#,
    ),
    (
        "marks of the module in between",
        SESSION,
        r#"def add(a,b):
    m=sys.modules['test_main']
    S[0].items[0].parent.own_markers.append(m.later.mark)
    return a+b if (a,b) in ((1,2),) else 9
def is_even(n): return None"#,
    ),
    (
        "it calls the protocol itself",
        SESSION,
        r#"def add(a,b):
    s=S[0]
    plug=[p for p in s.config.pluginmanager.get_plugins() if type(p).__name__=='Plugin']
    for p in plug:
        for f in vars(p).values():
            if getattr(f,'__name__','')=='pytest_collection_finish': f(type('X',(),{'items':[]})())
    return 9
def is_even(n): return None"#,
    ),
    (
        "its plugin answers for the test",
        SESSION,
        r#"import pytest
class Evil:
    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem): return True
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem): return True
done=[]
def add(a,b):
    if not done: S[0].config.pluginmanager.register(Evil()); done.append(1)
    return a+b if (a,b)==(1,2) else 9
def is_even(n): return None"#,
    ),
    (
        "its plugin makes reports",
        SESSION,
        r#"import pytest
class Evil:
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item, call):
        from _pytest.reports import TestReport
        call.excinfo=None
        return TestReport.from_item_and_call(item, call)
done=[]
def add(a,b):
    if not done: S[0].config.pluginmanager.register(Evil()); done.append(1)
    return a+b if (a,b)==(1,2) else 9
def is_even(n): return None"#,
    ),
    (
        "another module name",
        "",
        r#"import sys
m=sys.modules['test_main']; m.__name__='zz'
def add(a,b): return 9
def is_even(n): return None"#,
    ),
    (
        "it shortens the list of items while it runs",
        SESSION,
        r#"def add(a,b):
    del S[0].items[1:]
    return a+b
def is_even(n): return None"#,
    ),
    (
        "it stops the session after the first test",
        SESSION,
        r#"def add(a,b):
    S[0].shouldstop='enough'
    return a+b
def is_even(n): return None"#,
    ),
    (
        "it empties code objects of the suite",
        "",
        r#"import sys, types
def add(a,b):
    m=sys.modules['test_main']
    f=m.test_last
    g=types.FunctionType((lambda: None).__code__, {})
    m.test_last=g
    for i in range(1): pass
    return a+b if (a,b)==(1,2) else 9
def is_even(n): return None"#,
    ),
    (
        "it gives a class of exceptions that is everything",
        "",
        r#"class M(type):
    def __instancecheck__(c,o): return True
    def __subclasscheck__(c,o): return True
import pytest
class E(Exception, metaclass=M): pass
def add(a,b): raise E
def is_even(n): raise E"#,
    ),
    (
        "exit in a destructor at the end",
        "",
        r#"import os, sys
class X:
    def __del__(s): os._exit(0)
x=X()
def add(a,b): return 9
def is_even(n): return None"#,
    ),
];

/// A solved suite that marks its tests in every way.
pub(super) const EVERY_MARK: &[(&str, &str)] = &[
    (
        "test_main.py",
        r#"
import pytest, sys, unittest, functools
from unittest import mock
from main import add
import helper
from helper import requires, base, Slow
later = pytest.mark.skip(reason='later')
unused = pytest.mark.skip(reason='by the hook')
pytestmark = [pytest.mark.filterwarnings('ignore')]
CASES = [pytest.param(1, 2, marks=pytest.mark.xfail(reason='known')), pytest.param(2, 4), pytest.param(0, 1, marks=[later])]
@pytest.mark.parametrize('n,two', CASES)
def test_p(n, two): assert add(n, n) == two and n != 1
@later
def test_later(): assert False
@requires(False)
def test_requires(): assert False
@mock.patch('main.add')
@later
def test_mocked(f): assert False
@later
@mock.patch('main.add')
def test_mocked2(f): assert False
class TestA(Slow):
    pytestmark = later
    def test_x(self): assert False
class TestB(Slow): pass
@pytest.mark.xfail
class TestC:
    def test_f(self): assert False
    @staticmethod
    @later
    def test_s(): assert False
    @classmethod
    @later
    def test_c(cls): assert False
class TestU(unittest.TestCase):
    n = 0
    def __init__(self, *a):
        super().__init__(*a); TestU.n += 1
    @later
    def test_l(self): self.fail()
    @pytest.mark.xfail(reason='x')
    def test_x(self): self.fail()
    def test_a(self): self.assertEqual(add(1, 1), 2)
    @unittest.skipIf(True, 'x')
    def test_b(self): self.fail()
def test_dyn(request):
    request.node.add_marker(pytest.mark.xfail(reason='now'))
    assert False
def test_dyn2(request):
    request.applymarker(pytest.mark.xfail(reason='now'))
    assert False
@pytest.fixture
def marking(request): request.node.add_marker(unused) if False else request.node.add_marker('slow')
def test_m(marking): assert add(1,2) == 3
def test_hook(): assert False
def test_gen(g): assert add(g, g) == 2 * g and g < 5
@pytest.mark.skipif('sys.version_info > (3, 0)')
def test_text(): assert False
def test_sub(subtests=None): assert True
"#,
    ),
    (
        "helper.py",
        r#"
import pytest
def requires(x): return pytest.mark.skipif(not x, reason='needs')
base = 1
class Slow:
    @pytest.mark.skip(reason='slow')
    def test_slow(self): assert False
"#,
    ),
    (
        "conftest.py",
        r#"
import pytest
why = pytest.mark.skip(reason='why')
def pytest_collection_modifyitems(items):
    for item in items:
        if 'hook' in item.name: item.add_marker(why)
def pytest_generate_tests(metafunc):
    if 'g' in metafunc.fixturenames:
        metafunc.parametrize('g', [1, pytest.param(9, marks=pytest.mark.xfail(reason='big'))])
def pytest_configure(config): config.addinivalue_line('markers', 'slow: x')
"#,
    ),
];
