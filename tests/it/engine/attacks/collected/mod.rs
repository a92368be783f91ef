//! Code under test that changes what pytest is made of while that collects the tests or goes from
//! one to the next, and puts it back before the runner looks: so that tests are skipped, expected
//! to fail or left out; and code that looks for the runner among the classes of the interpreter.
//!
//! Each attempt is preceded by its first part, which gives it a moment or an object of pytest.

mod marks;
mod parameters;

use serde_json::json;

use super::suites::{SUITE, judged_with};
use crate::harness::{Daemon, Options};
use marks::{EVERY_MARK, MARKS, ON_MARKS};
use parameters::{EVERY_PARAMETER, ON_PARAMETERS, PARAMETERS};

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

/// Has every case signed as passed by the runner's function, which `search` looks for in classes.
const FORGE: &str = r#"
def forge(r):
    import os
    for i in range(100):
        try: r(i=i,end="passed",ms=1.0)
        except BaseException: pass
    r(done=0); os._exit(0)
import types
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
def search():
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
"#;

/// What is tried, its first part, and the rest.
type Attempts = &'static [(&'static str, &'static str, &'static str)];

/// Against the suite of all attempts.
#[rustfmt::skip]
const ATTEMPTS: Attempts = &[
    (
        "subclasses: a class of the runner",
        FORGE,
        r#"def add(a,b):
    search()
    return 7
def is_even(n): return None"#,
    ),
    (
        "subclasses at import",
        FORGE,
        r#"search()
def add(a,b): return 7
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
