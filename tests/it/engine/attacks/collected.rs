//! Code under test that changes what pytest is made of while that collects the tests or goes from
//! one to the next, and puts it back before the runner looks: so that tests are skipped, expected
//! to fail or left out; and code that looks for the runner among the classes of the interpreter.
//!
//! Each attempt is preceded by its first part, which gives it a moment or an object of pytest.

use serde_json::json;

use super::suites::{SUITE, judged_with};
use crate::harness::{Daemon, Options};

/// Calls `window(test module)` once, while pytest collects the tests.
const WINDOW: &str = r#"
import sys, inspect
_old = inspect.isclass
def _fake(o):
    m = sys.modules.get('test_main')
    if m is not None and hasattr(m, 'test_later'):
        inspect.isclass = _old
        window(m)
    return _old(o)
inspect.isclass = _fake
def add(a,b): return a+b if (a,b)==(1,2) else 7
def is_even(n): return None
"#;

/// Gets pytest's session.
const SESSION: &str = r#"
import _pytest.fixtures as F, sys
_K=F.FixtureManager
_old=_K.getfixtureinfo
S=[]
def _evil(self,*a,**k):
    _K.getfixtureinfo=_old
    S.append(self.session)
    return _old(self,*a,**k)
_K.getfixtureinfo=_evil
"#;

/// Has every case signed as passed by the runner's function.
const FORGE: &str = r#"
def forge(r):
    import os
    for i in range(100):
        try: r(i=i,end="passed",ms=1.0)
        except BaseException: pass
    r(done=0); os._exit(0)
"#;

/// What is tried, its first part, and the rest.
type Attempts = &'static [(&'static str, &'static str, &'static str)];

/// Against the suite of all attempts.
#[rustfmt::skip]
const ATTEMPTS: Attempts = &[
    (
        "subclasses: a class of the runner",
        FORGE,
        r#"import types
def walk(f, seen):
    todo=[f]
    while todo:
        x=todo.pop()
        if id(x) in seen: continue
        seen.add(id(x))
        if getattr(x,'__name__','')=='record' and hasattr(x,'__code__'): return x
        for c in getattr(x,'__closure__',None) or ():
            try: v=c.cell_contents
            except ValueError: continue
            if isinstance(v, types.FunctionType): todo.append(v)
def add(a,b):
    seen=set()
    todo=list(object.__subclasses__())
    done=set()
    while todo:
        c=todo.pop()
        if c in done: continue
        done.add(c)
        try: todo.extend(type.__subclasses__(c))
        except Exception: pass
        for f in list(vars(c).values()):
            f=getattr(f,'__func__',f)
            if isinstance(f, types.FunctionType):
                r=walk(f,seen)
                if r: forge(r)
    return 7
def is_even(n): return None"#,
    ),
    (
        "subclasses at import",
        FORGE,
        r#"import types
def walk(f, seen):
    todo=[f]
    while todo:
        x=todo.pop()
        if id(x) in seen: continue
        seen.add(id(x))
        if getattr(x,'__name__','')=='record' and hasattr(x,'__code__'): return x
        for c in getattr(x,'__closure__',None) or ():
            try: v=c.cell_contents
            except ValueError: continue
            if isinstance(v, types.FunctionType): todo.append(v)
def add(a,b):
    seen=set()
    todo=list(object.__subclasses__())
    done=set()
    while todo:
        c=todo.pop()
        if c in done: continue
        done.add(c)
        try: todo.extend(type.__subclasses__(c))
        except Exception: pass
        for f in list(vars(c).values()):
            f=getattr(f,'__func__',f)
            if isinstance(f, types.FunctionType):
                r=walk(f,seen)
                if r: forge(r)
    return 7
def is_even(n): return None"#,
    ),
    (
        "subclasses: builtins of the runner",
        "",
        r#"import types, builtins
def add(a,b):
    todo=list(object.__subclasses__()); done=set()
    while todo:
        c=todo.pop()
        if c in done: continue
        done.add(c)
        try: todo.extend(type.__subclasses__(c))
        except Exception: pass
        for f in list(vars(c).values()):
            f=getattr(f,'__func__',f)
            if isinstance(f, types.FunctionType):
                b=f.__globals__.get('__builtins__')
                if isinstance(b,dict) and b is not vars(builtins) and len(b)>100:
                    for k in ('isinstance','map','any','all','getattr'):
                        pass
                    b['map']=lambda *a: ()
                    b['isinstance']=lambda *a: True
                    b['getattr']=lambda *a: True
    return 7
def is_even(n): return None"#,
    ),
    (
        "a mark that the suite makes through a C callable",
        "",
        r#"import pytest, functools
m = functools.lru_cache(pytest.mark.xfail(reason='x'))
def add(a=0,b=0): return 7
add = m
def is_even(n): return None"#,
    ),
    (
        "the suite's own mark on other tests, while inspect looks",
        "",
        r#"import sys, inspect, pytest
old = inspect.Signature.from_callable.__func__
state = []
def new(cls, obj, **k):
    m = sys.modules.get('test_main')
    if m is not None and hasattr(m, 'test_later') and not state:
        state.append(1)
        inspect.Signature.from_callable = classmethod(old)
        mark = m.later.mark
        for k2,v in list(vars(m).items()):
            if k2.startswith('test') and callable(v): v.pytestmark = getattr(v,'pytestmark',[]) + [mark]
        m.TestNew.pytestmark=[mark]; m.TestOld.pytestmark=[mark]
    return old(cls, obj, **k)
inspect.Signature.from_callable = classmethod(new)
def add(a,b): return a+b if (a,b)==(1,2) else 7
def is_even(n): return None"#,
    ),
    (
        "the suite's own mark on other tests, from ast of inspect isclass",
        "",
        r#"import sys, inspect
old = inspect.isclass
n=[0]
def fake(o):
    m = sys.modules.get('test_main')
    if m is not None and hasattr(m, 'test_later'):
        n[0]+=1
        inspect.isclass = old
        import _pytest.python
        mark = m.later.mark
        for k2,v in list(vars(m).items()):
            if k2.startswith('test') and callable(v) and k2!='test_small': v.pytestmark = getattr(v,'pytestmark',[]) + [mark]
        m.TestNew.pytestmark=[mark]; m.TestOld.pytestmark=[mark]
    return old(o)
inspect.isclass = fake
def add(a,b): return a+b if (a,b)==(1,2) else 7
def is_even(n): return None"#,
    ),
    (
        "a thread puts the suite's own mark on other tests",
        "",
        r#"import sys, threading, time
def run():
    while True:
        m = sys.modules.get('test_main')
        if m is not None and hasattr(m, 'test_later'):
            mark = m.later.mark
            for k2,v in list(vars(m).items()):
                if k2.startswith('test') and callable(v) and k2!='test_small': v.pytestmark = getattr(v,'pytestmark',[]) + [mark]
            m.TestNew.pytestmark=[mark]; m.TestOld.pytestmark=[mark]
            return
sys.setswitchinterval(1e-6)
threading.Thread(target=run, daemon=True).start()
def add(a,b): return a+b if (a,b)==(1,2) else 7
def is_even(n): return None"#,
    ),
    (
        "uninitialised memory of a buffer",
        FORGE,
        r#"import io, re, os, sys, hmac, hashlib
leak=[]
class R(io.RawIOBase):
    def readable(self): return True
    def readinto(self, b):
        leak.append(bytes(b)); return 0
keep=[]
def look():
    for size in list(range(100,520,8))+[600,700,800,1000,1200,1500,2000,3000,4000,8192,16384]:
        for i in range(200 if size<520 else 30):
            f=io.BufferedReader(R(), size); f.peek(); keep.append(f)
    found=set()
    for d in leak:
        found.update(re.findall(rb'[0-9a-f]{64}', d))
    print('KEYS', len(found), file=sys.stderr)
    return found
def add(a,b):
    for k in look():
        key=bytes.fromhex(k.decode())
        def sign(n,t):
            t=('{"n":%d,%s}'%(n,t)).encode()
            return b"\n\x1eassay "+hmac.new(key,t,'sha256').hexdigest().encode()+b" "+t+b"\n"
        d=b''.join(sign(2+i,'"i":%d,"end":"passed","ms":1.0'%i) for i in range(13))+sign(15,'"done":0')
        for fd in range(3,30):
            try: os.write(fd,d)
            except OSError: pass
    if keep: os._exit(0)
    return 7
def is_even(n): return None"#,
    ),
    (
        "exec_module notes its marks",
        WINDOW,
        r#"import types
def window(m):
    mark=m.later.mark
    x=types.ModuleType('x'); x.__spec__=types.SimpleNamespace(loader_state='helper.py')
    i=0
    for k,v in list(vars(m).items()):
        if k.startswith('test') and callable(v) and k!='test_small':
            v.pytestmark=getattr(v,'pytestmark',[])+[mark]; i+=1; setattr(x,'f%d'%i,v)
    m.TestNew.pytestmark=[mark]; m.TestOld.pytestmark=[mark]; x.a=m.TestNew; x.b=m.TestOld
    m.TestNew.__module__=m.TestOld.__module__='x'
    sys.meta_path[0].exec_module(x)
    m.TestNew.__module__=m.TestOld.__module__='test_main'"#,
    ),
    (
        "flags of unittest in the window",
        WINDOW,
        r#"def window(m): m.TestOld.__unittest_skip__=True; m.TestOld.__unittest_skip_why__='x'
def add(a,b): return a+b if (a,b)!=(0,0) else 7
def is_even(n): return n%2==0"#,
    ),
    (
        "reorder_items drops tests",
        "",
        r#"import _pytest.fixtures as F
old=F.reorder_items
def evil(items):
    F.reorder_items=old
    return [i for i in items if i.name=='test_small']
F.reorder_items=evil
def add(a,b): return 3
def is_even(n): return None"#,
    ),
    (
        "classes with a constructor are not collected",
        WINDOW,
        r#"def window(m): m.TestNew.__init__=lambda self: None
def add(a,b): return a+b if (a,b)!=(2,3) else 5 if __import__('sys')._getframe(1).f_code.co_name=='test_same' else 7
def is_even(n): return n%2==0"#,
    ),
    (
        "settings of pytest in the window",
        "",
        r#"import _pytest.fixtures as F, sys
K=F.FixtureManager
names=[n for n in ('parsefactories','getfixtureinfo') if hasattr(K,n)]
olds={n:vars(K)[n] for n in names}
def make(n):
    def evil(self,*a,**k):
        for x in names: setattr(K,x,olds[x])
        self.session.config._inicache['python_functions']=['test_small']
        self.session.config._inicache['python_classes']=['Nope']
        return olds[n](self,*a,**k)
    return evil
for n in names: setattr(K,n,make(n))
import unittest
def add(a,b): return a+b if (a,b) in((1,2),(0,0),(1,1),(2,2)) else 7
def is_even(n): return None"#,
    ),
];

/// A suite whose marks depend on conditions.
const CONDITIONS: &str = r#"
import pytest, sys, unittest
from main import add
hard = pytest.mark.xfail(sys.version_info < (3, 0), reason='old')
def test_easy(): assert add(1, 1) == 2
@hard
def test_hard(): assert add(1, 2) == 3
@pytest.mark.skipif(sys.version_info < (3, 0), reason='old')
def test_old(): assert add(2, 2) == 4
def test_last(): assert add(3, 3) == 6
@pytest.mark.skipif("platform.system() == 'Windows'")
def test_text(): assert add(4, 4) == 8
"#;

#[rustfmt::skip]
const ON_CONDITIONS: Attempts = &[
    (
        "it changes the arguments of a conditional mark",
        "",
        r#"import sys
done=[]
def add(a,b):
    m=sys.modules['test_main']
    if not done:
        for k in ('test_hard','test_old'):
            for mark in getattr(m,k).pytestmark:
                object.__setattr__(mark,'args',(True,))
        done.append(1)
    return a+b if a in (1,3) and a==b else a+b if a==4 else 7"#,
    ),
    (
        "it changes the arguments of a conditional mark at import of another",
        "",
        r#"import sys, inspect
old = inspect.Signature.from_callable.__func__
def new(cls, obj, **k):
    m = sys.modules.get('test_main')
    if m is not None and hasattr(m, 'test_old'):
        for k2 in ('test_hard','test_old'):
            for mark in getattr(m,k2).pytestmark:
                object.__setattr__(mark,'args',(True,))
    return old(cls, obj, **k)
inspect.Signature.from_callable = classmethod(new)
def add(a,b): return a+b if a==b and a!=2 else 7"#,
    ),
    (
        "it replaces what a condition in text asks",
        "",
        r#"import platform
platform.system = lambda: 'Windows'
def add(a,b): return a+b if a!=4 else 7"#,
    ),
    (
        "a frozen mark is rebuilt through its dict",
        "",
        r#"import sys
def add(a,b):
    m=sys.modules['test_main']
    for mark in m.test_hard.pytestmark: mark.kwargs.clear(); mark.kwargs.update(reason='x', condition=True)
    for mark in m.test_old.pytestmark: mark.kwargs.update(condition=True, reason='x')
    return a+b if a==b and a!=2 else 7"#,
    ),
];

/// A suite with marks of several kinds and a skip of its own.
const MARKS: &str = r#"
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
const ON_MARKS: Attempts = &[
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

/// A suite with parameters, in two files.
const PARAMETERS: &[(&str, &str)] = &[
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
const ON_PARAMETERS: Attempts = &[
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
const EVERY_PARAMETER: &[(&str, &str)] = &[
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

/// A suite that marks its tests in every way there is, and is solved.
const EVERY_MARK: &[(&str, &str)] = &[
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

#[test]
fn no_test_is_left_out_by_what_pytest_is_made_of() {
    none_is_accepted(false);
}

#[test]
fn no_separate_test_is_left_out_by_what_pytest_is_made_of() {
    none_is_accepted(true);
}

fn none_is_accepted(is_separate: bool) {
    let daemon = Daemon::start(&Options { profiles: "python,python-3.11", floor: 1, ..Options::default() });
    let mut caller = daemon.caller();
    let conditions = [("test_main.py", CONDITIONS)];
    let marks = [("test_main.py", MARKS)];
    let all: [(&[(&str, &str)], Attempts); 4] =
        [(&SUITE, ATTEMPTS), (&conditions, ON_CONDITIONS), (&marks, ON_MARKS), (PARAMETERS, ON_PARAMETERS)];
    let mut accepted = Vec::new();
    for (suite, attempts) in all {
        for (what, first, rest) in attempts {
            let code = format!("{first}\n{rest}\n");
            let report = judged_with(&mut caller, "python", &[("main.py", &code)], suite, is_separate);
            if report.is_ok_and(|report| report["verdict"] == "accepted") {
                accepted.push(*what);
            }
        }
    }
    assert!(accepted.is_empty(), "accepted: {accepted:#?}");
    for language in ["python", "python-3.11"] {
        for suite in [EVERY_MARK, EVERY_PARAMETER] {
            let right = [("main.py", "def add(a, b): return a + b\n")];
            let report = judged_with(&mut caller, language, &right, suite, is_separate).unwrap();
            assert_eq!(report["verdict"], json!("accepted"), "{language}: {report:#}");
        }
    }
}
