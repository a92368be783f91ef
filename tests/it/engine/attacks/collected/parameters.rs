//! Suites with parameters and several files, and code that leaves some of them out.

use super::{Attempts, SESSION};

/// A suite with parameters, in two files.
pub(super) const PARAMETERS: &[(&str, &str)] = &[
    (
        "test_a.py",
        r#"
import pytest
from main import add
@pytest.mark.parametrize('a', [1, 2, 3])
def test_p(a):
    r = add(a, a)
    assert type(r) is int and r == a + a
@pytest.mark.skipif(pytest.__version__ == 'x', reason='x')
def test_cond():
    assert add(5, 5) == 10
def test_q(): assert add(1, 1) == 2
"#,
    ),
    (
        "test_b.py",
        r#"
from main import add
def test_b(): assert add(2, 7) == 9
"#,
    ),
];

#[rustfmt::skip]
pub(super) const ON_PARAMETERS: Attempts = &[
    (
        "a file is not collected",
        "",
        r#"import _pytest.python as P
old=P.Module.collect
def evil(self):
    if self.name.endswith('test_b.py'):
        P.Module.collect=old
        return []
    return old(self)
P.Module.collect=evil
def add(a,b): return a+b if (a,b)!=(2,7) else 0"#,
    ),
    (
        "parameters are left out",
        "",
        r#"import _pytest.python as P
old=P.PyCollector._genfunctions
def evil(self,name,funcobj):
    if name=='test_p':
        P.PyCollector._genfunctions=old
        return list(old(self,name,funcobj))[:1]
    return old(self,name,funcobj)
P.PyCollector._genfunctions=evil
def add(a,b): return a+b if (a,b) not in ((2,2),(3,3)) else 0"#,
    ),
    (
        "parameters are replaced",
        SESSION,
        r#"def add(a,b):
    for i in S[0].items:
        if i.name.startswith('test_p['):
            i.callspec.params['a']=1
            if hasattr(i.callspec,'funcargs'): i.callspec.funcargs['a']=1
            i.funcargs['a']=1
    return 2 if a==1 else a+b if a in(5,2) and b!=2 else 0"#,
    ),
    (
        "arguments are replaced by a plugin",
        SESSION,
        r#"import pytest
class Evil:
    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem):
        if 'a' in pyfuncitem.funcargs: pyfuncitem.funcargs['a']=1
done=[]
def add(a,b):
    if not done: S[0].config.pluginmanager.register(Evil()); done.append(1)
    return a+b if (a,b) not in ((2,2),(3,3)) else 0"#,
    ),
    (
        "the list of parameters is emptied by the window",
        "",
        r#"import sys, inspect
_old = inspect.isclass
def _fake(o):
    m = sys.modules.get('test_a')
    if m is not None and hasattr(m, 'test_q'):
        inspect.isclass = _old
        del m.test_p.pytestmark[0].args[1][1:]
    return _old(o)
inspect.isclass = _fake
def add(a,b): return a+b if (a,b) not in ((2,2),(3,3)) else 0"#,
    ),
    (
        "evaluation of conditions, installed late and put back",
        "",
        r#"import _pytest.skipping as P
old=P.evaluate_skip_marks
n=[0]
def evil(item):
    n[0]+=1
    if item.name=='test_cond':
        P.evaluate_skip_marks=old
        return P.Skip('x')
    return old(item)
def add(a,b):
    if (a,b)==(3,3): P.evaluate_skip_marks=evil
    return a+b if a!=5 else 0"#,
    ),
];

/// A solved suite with parameters of many kinds.
pub(super) const EVERY_PARAMETER: &[(&str, &str)] = &[
    (
        "test_a.py",
        r#"
import pytest
from main import add
@pytest.mark.parametrize('a', [1, 2, 3])
@pytest.mark.parametrize('b,c', [(1, [1]), pytest.param(2, [2], id='two')])
def test_p(a, b, c):
    r = add(a, b)
    assert type(r) is int and r == a + b and c == [b]
@pytest.fixture
def twice(request): return request.param * 2
@pytest.mark.parametrize('twice', [1, 2], indirect=True)
def test_i(twice): assert add(twice, 0) == twice
@pytest.mark.parametrize('n', range(3))
def test_r(n): assert add(n, n) == n + n
@pytest.mark.parametrize('n', (x for x in [1, 2]))
def test_g(n): assert add(n, n) == n + n
class Base:
    @pytest.mark.parametrize('n', [1, 2])
    def test_b(self, n): assert add(n, 1) == n + 1
class TestX(Base): pass
@pytest.mark.parametrize('k', ['p', 'q'])
class TestY:
    def test_k(self, k): assert add(1, 1) == 2
    @pytest.mark.parametrize('n', [5])
    def test_kn(self, n, k): assert n == 5
@pytest.fixture(params=[1, 2])
def f(request): return request.param
@pytest.mark.parametrize('n', [1])
def test_f(n, f): assert add(n, f) == n + f
"#,
    ),
    (
        "test_b.py",
        r#"
from main import add
def test_b(): assert add(2, 2) == 4
"#,
    ),
];
