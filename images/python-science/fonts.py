# Makes matplotlib's list of fonts, and has matplotlib read it from where it is.
import os
import py_compile

FOLDER = "/usr/local/share/matplotlib"
os.makedirs(FOLDER)
os.environ["MPLCONFIGDIR"] = FOLDER

import matplotlib.font_manager as manager

made = [name for name in os.listdir(FOLDER) if name.startswith("fontlist-")]
assert len(made) == 1, made
os.chmod(f"{FOLDER}/{made[0]}", 0o644)
with open(manager.__file__) as file:
    source = file.read()
assert source.count("mpl.get_cachedir(), f\"fontlist-") == 1
with open(manager.__file__, "w") as file:
    file.write(source.replace("mpl.get_cachedir(), f\"fontlist-", f"{FOLDER!r}, f\"fontlist-"))
py_compile.compile(manager.__file__, doraise=True)
