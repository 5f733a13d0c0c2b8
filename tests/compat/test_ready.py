"""Cold starts in sandboxes that stood ready: what is used and what is not, what is seen, and what is left."""

import pathlib
import platform
import subprocess

import pytest
from conftest import PYTHON_RUNTIME, eventually, running
from functions import function

pytestmark = pytest.mark.local

# `started` is when the interpreter started, in clock ticks since boot: the same number inside and outside.
CODE = """
import os, sys
started = open('/proc/self/stat').read().rsplit(')')[1].split()[19]
loaded = sorted(sys.modules)
def files(top):
    return sorted(os.path.join(d, f) for d, _, names in os.walk(top) for f in names)
def handler(event, context):
    shown = [open('/proc/self/' + name).read() for name in ('environ', 'maps', 'mountinfo')]
    everything = shown + [str(os.environ), str(sys.path), str(sys.modules), *files('/var/task'), *files('/opt'), *files('/tmp')]
    return {'started': started, 'env': os.environ.get(event or ''), 'files': files('/var/task'), 'all': ' '.join(everything)}
"""
NODE_CODE = """
const started = require('fs').readFileSync('/proc/self/stat', 'utf8').split(')')[1].trim().split(' ')[19];
exports.handler = async (event) => ({ started, env: process.env[event] });
"""


# The number of read(2), which the Python bootstrap and the Node.js one wait in.
READ = {"x86_64": "0 ", "aarch64": "63 "}[platform.machine()]


def node_runtime():
    version = subprocess.check_output(["node", "--version"], text=True)
    return f"nodejs{version[1:].split('.')[0]}.x"


def interpreters(node, waiting=False):
    """The interpreters below a node's process, or those that wait in read(2): pid -> when they started."""
    pids, found = [node.process.pid], {}
    while pids:
        pid = pids.pop()
        process = pathlib.Path(f"/proc/{pid}")
        try:
            for task in (process / "task").iterdir():
                pids += map(int, (task / "children").read_text().split())
            if "/var/runtime/" not in (process / "cmdline").read_text():
                continue
            if not waiting or (process / "syscall").read_text().startswith(READ):
                found[pid] = (process / "stat").read_text().rsplit(")", 1)[1].split()[19]
        except OSError:
            pass
    return found


def standing(node, used):
    """Waits for the interpreter that stands ready: the one that is none of `used`."""

    def look():
        there = set(interpreters(node, waiting=True).values()) - set(used)
        return there.pop() if len(there) == 1 else None

    return eventually(look)


@pytest.fixture
def quick(tmp_path, shared_cache):
    """A node of which one sandbox stands ready at a time."""
    config = tmp_path / "hawker.yaml"
    config.write_text("runtime:\n  ready_sandboxes: 1\n")
    with running(tmp_path / "data", "--cache", str(shared_cache), "--config", str(config)) as node:
        yield node


def change(fn, **variables):
    """Another configuration: the next invocation is a cold start."""
    fn.client.update_function_configuration(FunctionName=fn.name, Environment={"Variables": variables})
    fn.client.get_waiter("function_updated_v2").wait(FunctionName=fn.name, WaiterConfig={"Delay": 1})


@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_cold_start_takes_the_sandbox_that_stands_ready(quick, kind):
    files, runtime = ({"app.py": CODE}, PYTHON_RUNTIME) if kind == "python" else ({"app.js": NODE_CODE}, node_runtime())
    with function(quick, files, runtime=runtime, Environment={"Variables": {"ROUND": "0"}}) as fn:
        assert not interpreters(quick)
        used = [fn.result("ROUND")["started"]]
        for number in range(1, 4):
            ready = standing(quick, used)
            change(fn, ROUND=str(number))
            answer = fn.result("ROUND")
            assert (answer["env"], answer["started"]) == (str(number), ready)
            used.append(ready)
        # Each of them is billed as the cold start that it was.
        eventually(lambda: sum("Init Duration" in line for line in fn.lines()) == 4)


def test_what_an_interpreter_reads_while_it_boots_takes_another(quick):
    with function(quick, {"app.py": CODE, "wrapper": ("#!/bin/sh\nexport BY=wrapper\nexec \"$@\"\n", 0o755)}) as fn:
        used = [fn.result()["started"]]
        ready = standing(quick, used)
        for name, value in (("PYTHONPATH", "/var/task/mine"), ("PYTHONOPTIMIZE", "1"), ("TZ", "Asia/Tokyo")):
            change(fn, **{name: value})
            answer = fn.result(name)
            assert answer["env"] == value and answer["started"] != ready
            assert ("/var/task/mine" in answer["all"]) == (name == "PYTHONPATH")
        change(fn, AWS_LAMBDA_EXEC_WRAPPER="/var/task/wrapper")
        answer = fn.result("BY")
        assert answer["env"] == "wrapper" and answer["started"] != ready
        assert ready in interpreters(quick).values()


def test_nothing_of_one_function_is_ever_in_the_next(quick):
    secret = {"Variables": {"SECRET": "of-the-first"}}
    with function(quick, {"app.py": CODE, "first.txt": "x"}, Environment=secret) as first:
        used = [first.result()["started"]]
        with function(quick, {"app.py": CODE, "second.txt": "x"}, Environment={"Variables": {"SECRET": "of-the-second"}}) as second:
            ready = standing(quick, used)
            answer = second.result("SECRET")
            assert answer["started"] == ready
            assert answer["files"] == ["/var/task/app.py", "/var/task/second.txt"]
            assert "of-the-second" in answer["all"] and second.name in answer["all"]
            for foreign in ("of-the-first", first.name, "first.txt", "HAWKER_READY"):
                assert foreign not in answer["all"]


def test_a_killed_node_leaves_none(tmp_path, shared_cache):
    with running(tmp_path / "data", "--cache", str(shared_cache)) as node:
        with function(node, CODE) as fn:
            standing(node, [fn.result()["started"]])
            left = interpreters(node)
            assert len(left) == 2
            node.kill()

            def alive(pid, started):
                try:
                    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19] == started
                except OSError:
                    return False

            eventually(lambda: not any(alive(*one) for one in left.items()))
            node.start()
            assert fn.result()["files"] == ["/var/task/app.py"]
