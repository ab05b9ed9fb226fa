"""Values that were not written here are read in threads, by many at once."""

from __future__ import annotations

import subprocess
import sys

#: Each round has structs that nobody has decoded yet; four threads begin with them at the same moment.
FIRST_USE_IN_THREADS = """
import sys, threading, types
from agentd.model.reading import read
sys.setswitchinterval(1e-6)
source = "import msgspec\\n" + "".join(
    f"class S{n}(msgspec.Struct, frozen=True, kw_only=True):\\n"
    f"    a: int\\n    b: str | None = None\\n    c: dict[str, str] = {{}}\\n"
    + (f"    d: 'S{n - 1} | None' = None\\n" if n else "")
    for n in range(6)
)
for number in range(ROUNDS):
    module = sys.modules["m"] = types.ModuleType("m")
    exec(source, module.__dict__)
    together = threading.Barrier(4)
    found = []
    def first(shape=module.S5):
        together.wait()
        found.append(read(b'{"a":1,"d":{"a":2,"d":{"a":3}}}', shape).d.d.a)
    threads = [threading.Thread(target=first) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert found == [3, 3, 3, 3]
"""


def test_threads_may_begin_with_the_same_shape_at_the_same_moment() -> None:
    program = FIRST_USE_IN_THREADS.replace("ROUNDS", "200")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
