"""Unmodified programs and what each does with the small internet of `world.py`. Nothing in them knows of capsule.

Each is a shell script that runs in the workspace and ends with 0 only when what it asked for came back right.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Client:
    """One program.

    Attributes:
        name: as the compatibility table calls it.
        needs: capabilities (tests/capabilities.py).
        script: what it does; `$PYTHON` is an interpreter with requests, httpx and aiohttp.
        asked: a path that the server must have been asked for, and by which name.
        files: written into the workspace first.
        version: the command that says its version.
        does: for the table.
    """

    name: str
    needs: tuple[str, ...]
    script: str
    asked: tuple[str, str]
    does: str
    version: str = ""
    files: dict[str, str] = field(default_factory=dict)


_AIOHTTP = """\
import asyncio, aiohttp
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.post("https://api.example/aio", json={"n": 1}) as answer:
            assert (await answer.json())["size"] == 8, await answer.text()
asyncio.run(main())
"""
_JAVA = """\
import java.net.URI; import java.net.http.*;
class Get { public static void main(String[] a) throws Exception {
  var request = HttpRequest.newBuilder(URI.create("https://api.example/java")).build();
  var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
  if (answer.statusCode() != 200 || !answer.body().contains("/java")) System.exit(1); } }
"""
_GO = """\
package main
import ("io"; "net/http"; "os"; "strings")
func main() { r, err := http.Get("https://api.example/go"); if err != nil { println(err.Error()); os.Exit(1) }
  b, _ := io.ReadAll(r.Body); if !strings.Contains(string(b), "/go") { os.Exit(2) } }
"""
_GO_USER = 'package main\nimport "box.example/small"\nfunc main() { if small.Seven() != 7 { panic(1) } }\n'
_CARGO = """\
[package]
name = "user"
version = "0.1.0"
edition = "2021"
[dependencies]
smallthing = { version = "1", registry = "loop" }
"""
_CARGO_CONFIG = '[registries.loop]\nindex = "sparse+https://rs.example/index/"\n[net]\noffline = false\n'
_SSE = """\
import httpx
with httpx.stream("GET", "https://api.example/events") as answer:
    assert [line for line in answer.iter_lines() if line] == ["data: 0", "data: 1", "data: 2"]
"""

CLIENTS = (
    Client(
        "curl (HTTP/2)", ("curl",),
        "curl -fsS https://api.example/curl | grep -q '\"path\": \"/curl\"'",
        ("api.example", "/curl"), "GET", "curl --version",
    ),
    Client(
        "curl (HTTP/1.1, 20 MB up)", ("curl",),
        "head -c 20000000 /dev/zero > big"
        " && curl -fsS --http1.1 -T big https://box.example/v2/a/blobs/1 | grep -q sha256",
        ("box.example", "/v2/a/blobs/1"), "PUT of one large layer, as an image push does", "curl --version",
    ),
    Client(
        "wget", ("wget",), "wget -q -O - https://api.example/wget | grep -q wget",
        ("api.example", "/wget"), "GET", "wget --version",
    ),
    Client(
        "git clone, fetch, push", ("git",),
        "git clone -q https://git.example/project.git p && cd p && echo two > README && git -c user.name=u"
        " -c user.email=u@git.example commit -qam two && git push -q origin HEAD:two && git fetch -q"
        " && git rev-parse -q --verify origin/two",
        ("git.example", "/project.git/git-receive-pack"), "smart HTTP, both ways", "git --version",
    ),
    Client(
        "pip", ("venv",),
        "$PYTHON -m venv v && v/bin/pip install -q --no-cache-dir --index-url https://py.example/simple smallthing"
        " && v/bin/python -c 'import smallthing; assert smallthing.SEVEN == 7'",
        ("py.example", "/simple/smallthing/"), "index and wheel", "pip --version",
    ),
    Client(
        "uv", ("uv",),
        "uv venv -q --python $PYTHON v && uv pip install -q --no-cache --python v --default-index https://py.example/simple"
        " smallthing && v/bin/python -c 'import smallthing'",
        ("py.example", "/simple/smallthing/"), "index and wheel", "uv --version",
    ),
    Client(
        "npm", ("npm",),
        "npm install --silent --no-audit --no-fund --registry https://js.example/ smallthing"
        " && node -e 'if (require(\"smallthing\") !== 7) process.exit(1)'",
        ("js.example", "/smallthing"), "packument and tarball", "npm --version",
        {"package.json": '{"name": "user", "version": "1.0.0"}'},
    ),
    Client(
        "cargo", ("cargo",), "cargo fetch -q && test -f Cargo.lock",
        ("rs.example", "/index/sm/al/smallthing"), "sparse index and crate", "cargo --version",
        {"Cargo.toml": _CARGO, "src/main.rs": "fn main() {}\n", ".cargo/config.toml": _CARGO_CONFIG},
    ),
    Client(
        "go get", ("go",),
        "export GOFLAGS=-mod=mod GONOSUMDB='*' GOPROXY=https://go.example; go mod download box.example/small@v1.0.0",
        ("go.example", "/box.example/small/@v/v1.0.0.zip"), "module proxy", "go version",
        {"go.mod": "module user\n\ngo 1.19\n", "main.go": _GO_USER},
    ),
    Client(
        "Go net/http", ("go",), "go run get.go",
        ("api.example", "/go"), "GET from a program of one's own", "go version",
        {"get.go": _GO},
    ),
    Client(
        "Java HttpClient", ("javac",), "java Get.java",
        ("api.example", "/java"), "GET, HTTP/2 offered", "javac -version",
        {"Get.java": _JAVA},
    ),
    Client(
        "Python requests", (),
        "$PYTHON -c \"import requests; r = requests.post('https://api.example/rq', data=b'x' * 200000);"
        " assert r.json()['size'] == 200000\"",
        ("api.example", "/rq"), "POST of 200 kB", "",
    ),
    Client(
        "Python httpx, event stream", (), "$PYTHON sse.py", ("api.example", "/events"), "server-sent events", "",
        {"sse.py": _SSE},
    ),
    Client(
        "Python aiohttp", (), "$PYTHON aio.py", ("api.example", "/aio"), "POST of JSON", "", {"aio.py": _AIOHTTP},
    ),
    Client(
        "Python urllib", (), "$PYTHON -c \"import urllib.request as u;"
        " assert b'/ul' in u.urlopen('https://api.example/ul').read()\"",
        ("api.example", "/ul"), "GET with the standard library", "",
    ),
    Client(
        "Node fetch", ("node",),
        "node -e 'fetch(\"https://api.example/nf\").then(r => r.json())"
        ".then(j => process.exit(j.path === \"/nf\" ? 0 : 1))'",
        ("api.example", "/nf"), "GET", "node --version",
    ),
    Client(
        "Node https", ("node",),
        "node -e 'require(\"https\").get(\"https://api.example/nh\", r => process.exit(r.statusCode === 200 ? 0 : 1))'",
        ("api.example", "/nh"), "GET", "node --version",
    ),
)  # fmt: skip
