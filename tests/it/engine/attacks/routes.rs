//! Ways by which code under test replaces what the pytest runner is made of, or gets at its frames.
//! Each of [`ROUTES`] is a main.py; those with `look` are preceded by [`USE`], which has every case
//! signed as passed if `look` finds a frame that leads to the runner.

/// Uses a frame.
pub(super) const USE: &str = r#"
import sys, os
def use(f):
    seen = 0
    while f is not None and seen < 500:
        seen += 1
        r = f.f_locals.get('record')
        if r is not None and hasattr(r, '__code__'):
            for i in range(30):
                try: r(i=i, end='passed', ms=1.0)
                except BaseException: pass
            r(done=0)
            os._exit(0)
        f = f.f_back
def add(a, b):
    try: look()
    except RuntimeError: pass
    return 7
def is_even(n): return None
"#;

/// What is tried, and how.
pub(super) const ROUTES: &[(&str, &str)] = &[
    (
        "it replaces what the records were encoded with",
        r#"
import json, json.encoder
class E(json.encoder.JSONEncoder):
    def encode(self,o):
        if isinstance(o,dict) and 'end' in o and 'i' in o: o=dict(o,end='passed'); o.pop('message',None)
        return super().encode(o)
json.JSONEncoder=E
def add(a,b): return 0
def is_even(n): return None
"#,
    ),
    (
        "it replaces a method of what the records were encoded with",
        r#"
import json, json.encoder
K=json.encoder.JSONEncoder
old=K.encode
def encode(self,o):
    if isinstance(o,dict) and 'end' in o and 'i' in o: o=dict(o,end='passed'); o.pop('message',None)
    return old(self,o)
K.encode=encode
def add(a,b): return 0
def is_even(n): return None
"#,
    ),
    (
        "it replaces what the records were signed with",
        r#"
import hmac, os
old=hmac.HMAC.copy
S=[]
def copy(self):
    S.append(self)
    return old(self)
hmac.HMAC.copy=copy
def add(a,b):
    def sign(n,t):
        t=('{"n":%d,%s}'%(n,t)).encode(); m=old(S[0]); m.update(t)
        return b"\n\x1eassay "+m.hexdigest().encode()+b" "+t+b"\n"
    d=b''.join(sign(2+i,'"i":%d,"end":"passed","ms":1.0'%i) for i in range(13))+sign(15,'"done":0')
    for fd in range(3,30):
        try: os.write(fd,d)
        except OSError: pass
    os._exit(0)
def is_even(n): return None
"#,
    ),
    (
        "it passes for code of the standard library",
        r#"
import sys, importlib.machinery
src = '''
import sys
def walk():
    f=sys._getframe()
    while f is not None:
        yield f
        f=f.f_back
def look():
    for f in walk():
        if f.f_code.co_name=='main' and 'assay' in f.f_code.co_filename:
            r=f.f_locals['record']
            for i in range(13): r(i=i,end='passed',ms=1.0)
            r(done=0)
            import os
            os._exit(0)
'''
code=compile(src,sys.__file__ if hasattr(sys,'__file__') else __import__('os').__file__.replace('os.py','zz.py'),'exec')
O=importlib.machinery.SourceFileLoader
class L(O):
    def get_code(s,n): return code if s.path==code.co_filename else O.get_code(s,n)
importlib.machinery.SourceFileLoader=L
ns={}
exec(code,ns)
def add(a,b):
    ns['look']()
    return 0
def is_even(n): return None
"#,
    ),
    (
        "its audit hook gets frames",
        r#"
import sys, collections
got=[]
def hook(event,args):
    if event=='sys._getframe' and args: got.append(args[0])
sys.addaudithook(hook)
def add(a,b):
    collections.namedtuple('P','x y')
    f=got[-1]
    while f is not None:
        if f.f_code.co_name=='main' and 'assay' in f.f_code.co_filename: break
        f=f.f_back
    r=f.f_locals['record']
    for i in range(13): r(i=i,end='passed',ms=1.0)
    r(done=0)
    import os
    os._exit(0)
def is_even(n): return None
"#,
    ),
    (
        "it gets the function that pytest calls",
        r#"
import inspect
old=inspect.iscoroutinefunction
def evil(f):
    if getattr(f,'__name__','')=='witness':
        for name,cell in zip(f.__code__.co_freevars,f.__closure__):
            if name=='function': cell.cell_contents=lambda *a,**k: None
    return old(f)
inspect.iscoroutinefunction=evil
def add(a,b): return 0
def is_even(n): return None
"#,
    ),
    (
        "gc keeps frames for it",
        r#"
import gc
def garbage():
    try: 1/0
    except Exception as e: e.me = e
def look():
    gc.set_debug(gc.DEBUG_SAVEALL)
    garbage(); gc.collect()
    for x in gc.garbage:
        if type(x).__name__ == 'frame': use(x)
"#,
    ),
    (
        "_imp makes it another signal module",
        r#"
import importlib.machinery as m, _imp
def look():
    s=m.ModuleSpec('_signal', None)
    mod=_imp.create_builtin(s); _imp.exec_builtin(mod)
    o=[]
    mod.signal(10, lambda n, f: o.append(f)); mod.raise_signal(10); use(o[0])
"#,
    ),
    (
        "pytest's ExceptionInfo has frames",
        r#"
import _pytest._code
def look():
    try: 1/0
    except Exception: e=_pytest._code.ExceptionInfo.from_current()
    use(e.traceback[0].frame.raw)
"#,
    ),
    (
        "a C function stands between namedtuple and sys._getframe",
        r#"
import collections, functools
d=collections.defaultdict(functools.partial(sys._getframe, 0))
def look():
    old=sys._getframe
    sys._getframe=d.__getitem__
    if hasattr(sys, '_getframemodulename'): del sys._getframemodulename
    try: collections.namedtuple('P', 'x')
    except Exception: pass
    sys._getframe=old
    for f in d.values(): use(f)
"#,
    ),
    (
        "a library reads tb_frame for it",
        r#"
import functools, operator
class C: pass
def look():
    try: 1/0
    except Exception as e: c=C(); c.e=e
    p=functools.cached_property(operator.attrgetter('e.__traceback__.tb_frame')); p.__set_name__(C,'f')
    use(p.__get__(c))
"#,
    ),
    (
        "a library lists the entries of a traceback for it",
        r#"
import functools, traceback
class C: pass
def look():
    class C:
        def __iter__(s): return traceback.walk_tb(s.tb)
    try: 1/0
    except Exception as e: c=C(); c.tb=e.__traceback__
    p=functools.cached_property(list); p.__set_name__(C,'f')
    use(p.__get__(c)[0][0])
"#,
    ),
    (
        "it traces in the name of doctest",
        r#"
import doctest
got=[]
def tr(f,e,a):
    if len(got) < 50: got.append(f); return tr
def run():
    sys.settrace(tr)
def look():
    old=doctest.DocTestRunner.run
    doctest.DocTestRunner.run=run
    try: run()
    finally: doctest.DocTestRunner.run=old
    (lambda: 0)()
    for f in got: use(f)
"#,
    ),
    (
        "contextlib has pytest's objects",
        r#"
import contextlib
K=contextlib._GeneratorContextManager
old=K.__enter__
got=[]
def enter(self):
    got.extend(getattr(self,'args',()))
    return old(self)
K.__enter__=enter
def walkto(root):
  todo=[root]; seen=set()
  while todo:
    x=todo.pop(0)
    if id(x) in seen or len(seen)>20000: continue
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
    todo.append(type(x))
def look():
    for root in got:
        r=walkto(root)
        if r is not None:
            for i in range(30):
                try: r(i=i, end='passed', ms=1.0)
                except BaseException: pass
            r(done=0); os._exit(0)
"#,
    ),
    (
        "its code has a file name that lies",
        r#"
import types
class S(str):
    def startswith(s,*a):
        try: 1/0
        except Exception as e:
            got.append(e.__traceback__.tb_frame)
        return True
got=[]
def look():
    c=compile("try: 1/0\nexcept Exception as e: f=e.__traceback__.tb_frame",S('zz'),'exec').replace(co_filename=S('zz'))
    try: exec(c,{})
    except RuntimeError: pass
    for f in got: use(f)
"#,
    ),
    (
        "_imp is told two names",
        r#"
import _imp
class Spec:
    def __init__(s): s.n=0
    @property
    def name(s):
        s.n+=1
        return '_io' if s.n==1 else 'gc'
def look():
    m=_imp.create_builtin(Spec())
    m.set_debug(m.DEBUG_SAVEALL)
    import gc
    try: 1/0
    except Exception as e: e.me=e
    gc.collect()
    for x in gc.garbage:
        if type(x).__name__ == 'frame': use(x)
"#,
    ),
    (
        "doctest puts its tracer back",
        r#"
import doctest
got=[]
def tr(f,e,a):
    if len(got) < 50: got.append(f); return tr
def look():
    sys.gettrace=lambda: tr
    class R:
        pass
    t=doctest.DocTest([],{}, 'x','x',0,'')
    doctest.DocTestRunner(verbose=False).run(t)
    doctest.sys.settrace(tr)
    (lambda: 0)()
    for f in got: use(f)
"#,
    ),
    (
        "sys is loaded anew",
        r#"
import importlib, collections, functools
def look():
    import sys
    try: importlib.reload(sys)
    except Exception: pass
    s=None
    try:
        del sys.modules['sys']
        import sys as s
    except Exception: pass
    finally: sys.modules['sys']=sys
    for m in (sys, s):
        if m is None: continue
        g=m._getframe
        if type(g).__name__=='builtin_function_or_method':
            d=collections.defaultdict(functools.partial(g,0))
            use(g(0))
"#,
    ),
    (
        "it looks for the runner's builtins",
        r#"
import sys, builtins, types, pytest, unittest, traceback, doctest, signal, gc, _imp, inspect
hits=[]
def dicts(x, depth=0, seen=set()):
    todo=[x]
    while todo:
        x=todo.pop()
        if id(x) in seen: continue
        seen.add(id(x))
        for n in ('__globals__','__builtins__','__closure__','__dict__','__func__','__wrapped__','cell_contents','__self__','gi_code','__code__'):
            try: v=object.__getattribute__(x,n)
            except Exception: continue
            if n=='__builtins__' and isinstance(v,dict) and v is not vars(builtins) and len(v)>20: hits.append((x,v))
            todo.append(v)
        if isinstance(x,types.CodeType): todo.extend(x.co_consts)
        if isinstance(x,dict):
            if 'isinstance' in x and x is not vars(builtins) and len(x)>100: hits.append((x,x))
            todo.extend(x.values())
        elif isinstance(x,(list,tuple,set,frozenset)): todo.extend(x)
        elif not isinstance(x,(str,int,bytes,types.ModuleType)) and len(seen)<400000: todo.append(type(x))
for m in list(sys.modules.values()): dicts(vars(m))
dicts(sys.meta_path)
for a,b in hits:
    b['isinstance']=lambda *a: True
    b['map']=lambda *a: ()
    b['any']=lambda *a: False
def add(a,b): return 7
def is_even(n): return None
"#,
    ),
    (
        "it replaces what the runner is made of",
        r#"
import io, hashlib, os, marshal, json, posixpath, ast, types, time, importlib.util, _io
io.open_code=lambda p: 1/0
hashlib.sha256=None
json.encoder.encode_basestring_ascii=lambda s: '"passed"'
os.write=lambda *a: 0; os.fspath=lambda p: ''; os._exit=lambda n: None; os.getpid=lambda: 1
posixpath.join=lambda *a: ''
ast.parse=lambda *a: None
types.CodeType=int; types.FunctionType=int
time.perf_counter=lambda: 0
marshal.loads=lambda d: None
def add(a,b): return 7
def is_even(n): return None
"#,
    ),
    (
        "it calls the function that pytest calls",
        r#"
import contextlib
got = []
K = contextlib._GeneratorContextManager
old = K.__enter__
def enter(self):
    got.extend(getattr(self, 'args', ()))
    return old(self)
K.__enter__ = enter
def add(a, b):
    for item in got:
        if hasattr(item, 'obj') and hasattr(item.obj, '__code__'):
            try: item.obj()
            except Exception: pass
    return 7
def is_even(n): return None
"#,
    ),
];
