"""Real programs under the shipped presets: the work is done, and nothing was refused on the way.

Each test prepares what the network would bring (wheels, tarballs, lock files) outside, runs the program under the
preset, and asserts the result as the host sees it and the denials in the report. A denial that a program is known to
try for no reason is named in the test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)

PYTHON = str(Path(sys.executable).resolve())
# What pytest-xdist needs, found where this test runs.
XDIST = ("pytest", "_pytest", "xdist", "execnet", "pluggy", "iniconfig", "packaging", "pygments")


# Settings that programs look for in the home. It is hidden, they take "not there" for an answer, and the report says
# so ("view") where such a file exists on the host.
SETTINGS = (
    "/.config/uv/uv.toml",
    "/.inputrc",
    "/.npmrc",
    "/.popt",
    "/.sqliterc",
    "/.cargo/config",
    "/.config/go/env",
    "/.config/go/telemetry/mode",
    "/.config/go/telemetry/local/weekends",
)


class Preset:
    """One workspace under one preset."""

    def __init__(self, binary: Path, workspace: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.binary, self.workspace, self.name = binary, workspace, name
        self.report: dict[str, Any] = {}

    def run(
        self, *words: str | Path, expect: tuple[str, ...] = (), env: Mapping[str, str] | None = None
    ) -> str:
        """Run words under the preset; exit 0 and no denial but those named (ends of their targets)."""
        report = self.workspace.parent / "report.json"
        with report.open("wb") as file:
            done = subprocess.run(
                [str(self.binary), "run", "--policy", self.name, "--report-fd", str(file.fileno()),
                 "--log", str(self.workspace.parent / "capsule.log"), "--", *map(str, words)],
                cwd=self.workspace, env={**os.environ, **(env or {})}, pass_fds=[file.fileno()],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
            )  # fmt: skip
        self.report = json.loads(report.read_text() or "{}")
        said = f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, f"exit {done.returncode}: {self.report.get('exit')}\n{said}"
        unexpected = [
            f"{denial['program']} {denial['operation']} {denial['target']} ({denial['layer']})"
            for denial in self.report["denials"]
            if not denial["target"].endswith(expect)
            and not (denial["layer"] == "view" and denial["target"].endswith(SETTINGS))
        ]
        assert not unexpected, f"refused on the way: {unexpected}"
        return done.stdout

    def file(self, name: str, text: str) -> Path:
        path = self.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def preset(
    capsule_binary: Path, workspace: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Preset:
    return Preset(capsule_binary, workspace, request.param, monkeypatch)


def under(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("preset", [name], indirect=True)


def outside(*words: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def wheel(folder: Path) -> Path:
    """A small wheel with a module and a program, made by hand so that no build backend is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "greeting-1.0-py3-none-any.whl"
    info = "greeting-1.0.dist-info"
    files = {
        "greeting.py": "def main():\n    print('hello from the wheel')\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreeting = greeting:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


IDENTITY = {
    "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
}  # fmt: skip


@pytest.mark.needs("git")
@pytest.mark.parametrize("preset", ["git", "workspace"], indirect=True)
def test_git_on_a_repository(preset: Preset) -> None:
    outside("git", "init", "-q", "-b", "main", cwd=preset.workspace)
    preset.file("a.txt", "one\n")
    script = """set -e
git add -A; git commit -q -m one
git checkout -q -b topic; echo two >> a.txt; git commit -q -am two
git checkout -q main; echo b > b.txt; git add b.txt; git commit -q -m three
git rebase -q main topic; git log --oneline; git diff --stat main topic
echo x >> a.txt; git stash -q; git stash pop -q; git checkout -q -- a.txt
git merge -q --no-ff -m merged main; git tag v1; git gc -q; git fsck; git status --short
"""
    # git tidies empty directories up to the top of the tree, and tries .git itself, which is not empty.
    preset.run("sh", "-c", script, env=IDENTITY, expect=("/.git",))
    log = outside("git", "log", "--format=%s", "topic", cwd=preset.workspace).split()
    assert log == ["two", "three", "one"]
    assert not list((preset.workspace / ".git/hooks").glob("*[!e]"))


@pytest.mark.needs("git")
@under("git")
def test_git_init_and_clone_inside(preset: Preset) -> None:
    """A repository made inside the workspace, beside the workspace's own protected one."""
    preset.run(
        "sh",
        "-c",
        "git init -q -b main new && cd new && echo a > a && git add a && git commit -q -m a",
        env=IDENTITY,
    )
    preset.run("git", "clone", "-q", "new", "copy")
    assert (preset.workspace / "copy/a").read_text() == "a\n"


@pytest.mark.needs("venv")
@under("python")
def test_venv_and_pip_install(preset: Preset) -> None:
    wheel(preset.workspace / "wheels")
    preset.run(PYTHON, "-m", "venv", ".venv")
    preset.run(
        ".venv/bin/python", "-m", "pip", "install", "-q", "--no-index", "--find-links", "wheels", "greeting"
    )
    assert preset.run(".venv/bin/greeting") == "hello from the wheel\n"
    preset.run(".venv/bin/pip", "list")
    preset.run(".venv/bin/pip", "uninstall", "-q", "-y", "greeting")
    assert not (preset.workspace / ".venv/bin/greeting").exists()


@pytest.mark.needs("uv")
@under("python")
def test_uv_sync_and_pip_install(preset: Preset) -> None:
    wheel(preset.workspace / "wheels")
    preset.file(
        "pyproject.toml",
        '[project]\nname = "work"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["greeting"]\n'
        "[tool.uv]\npackage = false\n[tool.uv.sources]\n"
        'greeting = { path = "wheels/greeting-1.0-py3-none-any.whl" }\n',
    )
    # A copy in the workspace: the one found may lie below the host's /tmp, which a private one covers.
    uv = shutil.copy(shutil.which("uv") or "uv", preset.workspace / "uv")
    outside(uv, "lock", "-q", "--offline", "--python", PYTHON, cwd=preset.workspace)
    preset.run(uv, "sync", "-q", "--offline", "--frozen", "--python", PYTHON)
    assert preset.run(".venv/bin/greeting") == "hello from the wheel\n"
    assert preset.run(uv, "run", "-q", "--offline", "--frozen", "greeting") == "hello from the wheel\n"
    preset.run(uv, "venv", "-q", "--python", PYTHON, "other")
    preset.run(
        uv, "pip", "install", "-q", "--offline", "--python", "other", "wheels/greeting-1.0-py3-none-any.whl"
    )
    assert preset.run("other/bin/greeting") == "hello from the wheel\n"


@under("python")
def test_pytest_with_four_workers_and_shared_memory(preset: Preset) -> None:
    library = preset.workspace / "library"
    library.mkdir()
    for name in XDIST:
        found = next(p for p in (Path(entry) / name for entry in sys.path) if p.is_dir())
        shutil.copytree(found, library / name)
    for entry in sys.path:
        for found in Path(entry).glob("py.py"):
            shutil.copy(found, library)
        for found in [*Path(entry).glob("pytest-*.dist-info"), *Path(entry).glob("pytest_xdist-*.dist-info")]:
            shutil.copytree(found, library / found.name)
    preset.file(
        "test_work.py",
        """import concurrent.futures, multiprocessing, os, tempfile
from multiprocessing import shared_memory
import pytest

@pytest.mark.parametrize("n", range(8))
def test_sum(n):
    assert sum(range(n)) == n * (n - 1) // 2

def double(n):
    return 2 * n

@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(method):
    context = multiprocessing.get_context(method)
    with context.Lock(), context.Semaphore(2):
        pass
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        assert list(pool.map(double, range(4))) == [0, 2, 4, 6]

def test_shared_memory():
    block = shared_memory.SharedMemory(create=True, size=4096)
    block.buf[0] = 7
    block.close()
    block.unlink()

def test_temporary(tmp_path):
    (tmp_path / "x").write_text("x")
    with tempfile.TemporaryDirectory() as folder:
        assert os.listdir(folder) == []
""",
    )
    out = preset.run(
        PYTHON, "-m", "pytest", "-q", "-n", "4", "--maxprocesses", "4", "test_work.py",
        env={"PYTHONPATH": str(library)},
    )  # fmt: skip
    assert "13 passed" in out


@pytest.mark.needs("npm")
@under("node")
def test_npm_ci_from_local_files(preset: Preset) -> None:
    preset.file("linked/package.json", '{"name": "linked", "version": "1.0.0", "main": "index.js"}')
    preset.file("linked/index.js", "module.exports = 'linked'")
    preset.file(
        "packed/package.json", '{"name": "packed", "version": "1.0.0", "bin": {"packed": "index.js"}}'
    )
    preset.file(
        "packed/index.js", "#!/usr/bin/env node\nconsole.log('packed ran')\nmodule.exports = 'packed'\n"
    )
    outside("npm", "pack", "--silent", "./packed", cwd=preset.workspace)
    preset.file(
        "package.json",
        '{"name": "work", "version": "1.0.0", "scripts": {"test": "node -e \\"require(\'linked\')\\" && packed",'
        ' "postinstall": "node -e 0"}, "dependencies": {"linked": "file:./linked", "packed": "file:packed-1.0.0.tgz"}}',
    )
    outside("npm", "install", "--silent", "--package-lock-only", "--offline", cwd=preset.workspace)
    preset.run("npm", "ci", "--offline", "--no-audit")
    assert "packed ran" in preset.run("npm", "test", "--silent")
    assert (preset.workspace / "node_modules/packed/index.js").is_file()


@pytest.mark.needs("node")
@under("node")
def test_node_workers_and_children(preset: Preset) -> None:
    preset.file(
        "work.js",
        """const { Worker, isMainThread, parentPort } = require('worker_threads')
const { execFileSync, fork, spawn } = require('child_process')
const fs = require('fs'), http = require('http')
if (process.argv[2] === 'child') { process.send('forked'); process.disconnect() }
else if (isMainThread) {
  const worker = new Worker(__filename)
  worker.on('message', word => {
    const echoed = execFileSync('echo', ['spawned']).toString().trim()
    fork(__filename, ['child']).on('message', forked => {
      const server = http.createServer((_, answer) => answer.end('served')).listen(0, '127.0.0.1', () => {
        http.get({ port: server.address().port }, answer => answer.on('data', data => {
          fs.writeFileSync('result.txt', [word, echoed, forked, data].join(' '))
          server.close(); process.exit(0)
        }))
      })
    })
  })
} else parentPort.postMessage('worked')
""",
    )
    preset.run("node", "work.js")
    assert (preset.workspace / "result.txt").read_text() == "worked spawned forked served"


@pytest.mark.needs("cargo")
@under("rust")
def test_cargo_build_and_test(preset: Preset) -> None:
    preset.file(
        "Cargo.toml",
        '[package]\nname = "work"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\npart = { path = "part" }\n',
    )
    preset.file(
        "src/main.rs",
        'fn main() { println!("{}", part::hello()); }\n#[test]\nfn adds() { assert_eq!(1 + 1, 2); }\n',
    )
    preset.file("build.rs", 'fn main() { println!("cargo:rerun-if-changed=build.rs"); }\n')
    preset.file("part/Cargo.toml", '[package]\nname = "part"\nversion = "0.1.0"\nedition = "2021"\n')
    preset.file("part/src/lib.rs", 'pub fn hello() -> &\'static str { "hello from cargo" }\n')
    # Locks of the shared registry, and a place for them: cargo goes on without them when it is offline.
    locks = ("/.cargo", ".cargo/.package-cache", ".cargo/.package-cache-mutate", ".cargo/.global-cache")
    preset.run("cargo", "build", "--offline", "--quiet", expect=locks)
    assert preset.run("target/debug/work") == "hello from cargo\n"
    preset.run("cargo", "test", "--offline", "--quiet", expect=locks)
    preset.run("cargo", "build", "--offline", "--quiet", "--release", expect=locks)


@pytest.mark.needs("gcc")
@under("c")
def test_gcc_and_make(preset: Preset) -> None:
    preset.file(
        "hello.c",
        "#include <stdio.h>\n#include <math.h>\n"
        'int main(int n, char **v) { return printf("hello %.0f\\n", sqrt(n * 4.0)) < 0; }\n',
    )
    preset.file(
        "Makefile",
        "all: hello\nhello: hello.o\n\tgcc -pipe -o $@ $^ -lm\n%.o: %.c\n\tgcc -g -O2 -flto -c $<\n",
    )
    preset.run("make", "-j2") if shutil.which("make") else preset.run("gcc", "-o", "hello", "hello.c", "-lm")
    assert preset.run("./hello") == "hello 2\n"
    preset.run("gcc", "-shared", "-fPIC", "-o", "libhello.so", "hello.c", "-lm")


@pytest.mark.needs("javac")
@under("workspace")
def test_java(preset: Preset) -> None:
    preset.file(
        "Hello.java",
        """import java.util.stream.*;
public class Hello {
  public static void main(String[] args) throws Exception {
    Thread thread = new Thread(() -> System.out.print("hello "));
    thread.start(); thread.join();
    System.out.println(IntStream.range(0, 1000).parallel().sum());
  }
}
""",
    )
    preset.run("javac", "Hello.java")
    assert preset.run("java", "-Xmx256m", "Hello") == "hello 499500\n"


@pytest.mark.needs("go")
@under("workspace")
def test_go_build(preset: Preset) -> None:
    preset.file("go.mod", "module example.org/work\n\ngo 1.18\n")
    preset.file("main.go", 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello from go") }\n')
    go = {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    words = [f"{name}={value}" for name, value in go.items()]
    # Go keeps its counters (telemetry) in the home, which stays hidden.
    preset.run("env", *words, "go", "build", "-o", "work", ".", expect=("/.config",))
    assert preset.run("./work") == "hello from go\n"
    preset.run("env", *words, "go", "vet", "./...", expect=("/.config",))


@pytest.mark.needs("sqlite3")
@under("workspace")
def test_sqlite(preset: Preset) -> None:
    script = "pragma journal_mode=wal; create table t(a); insert into t values(1),(2); select sum(a) from t; vacuum;"
    assert preset.run("sqlite3", "work.db", script).split() == ["wal", "3"]
    code = "import sqlite3; c = sqlite3.connect('work.db'); c.execute('insert into t values(4)'); c.commit(); c.close()"
    preset.run(PYTHON, "-c", code)
    assert outside("sqlite3", "work.db", "select sum(a) from t", cwd=preset.workspace) == "7\n"


@under("workspace")
def test_copies_and_archives(preset: Preset) -> None:
    preset.file("tree/a", "a").chmod(0o750)
    preset.file("tree/sub/b", "b")
    os.utime(preset.workspace / "tree/a", (1_000_000_000, 1_000_000_000))
    (preset.workspace / "tree/link").symlink_to("sub/b")
    os.link(preset.workspace / "tree/a", preset.workspace / "tree/second")
    preset.run("cp", "-a", "tree", "copied")
    preset.run("tar", "-czf", "tree.tar.gz", "tree")
    preset.run("sh", "-c", "mkdir out && tar -xzpf tree.tar.gz -C out")
    if shutil.which("rsync"):
        preset.run("rsync", "-aH", "tree/", "synced/")
    for top in ("copied", "out/tree", *(["synced"] if shutil.which("rsync") else [])):
        facts = (preset.workspace / top / "a").stat()
        assert (facts.st_mode & 0o777, facts.st_mtime, facts.st_nlink) == (0o750, 1_000_000_000, 2)
        assert (preset.workspace / top / "link").read_text() == "b"
    preset.run(
        "sh",
        "-c",
        "mv copied moved && rm -rf moved out synced && find . -name b | xargs grep -c b > found && sed -i s/1/2/ found",
    )
    assert (preset.workspace / "found").read_text() == "2\n"


@under("workspace")
def test_shell_pipelines_and_job_control(preset: Preset) -> None:
    out = preset.run(
        "bash",
        "-c",
        "set -eu; seq 1000 | sort -rn | sed 2q | tee two; diff <(echo a) <(echo a); "
        "(sleep 0.1; echo late) & wait; mktemp >/dev/null",
    )
    assert out.split() == ["1000", "999", "late"]
