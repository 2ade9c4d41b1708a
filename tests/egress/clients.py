"""Programs that run inside: `python clients.py WHAT …`. They speak what curl does not."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import struct
import sys
import time

import h2.config
import h2.connection
import h2.errors
import h2.events


def tls(
    name: str, *, sni: str | None = None, protocols: tuple[str, ...] = ("http/1.1",), port: int = 443
) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=os.environ["CA"])
    if sni is not None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(socket.create_connection((name, port), 20), server_hostname=sni or name)


def websocket(name: str) -> None:
    """Three messages, one of them long, and a close."""
    sock = tls(name)
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    stream = sock.makefile("rb")
    print(stream.readline().decode().split()[1])
    while stream.readline() != b"\r\n":
        pass
    for message in (b"one", b"two", b"x" * 40000):
        length = (
            bytes([0x80 | len(message)]) if len(message) < 126 else b"\xfe" + struct.pack(">H", len(message))
        )
        sock.sendall(b"\x81" + length + b"\0\0\0\0" + message)
        size = stream.read(2)[1]
        if size == 126:
            size = struct.unpack(">H", stream.read(2))[0]
        print(stream.read(size) == message)
    sock.sendall(b"\x88\x80\0\0\0\0")
    print(stream.read(2))


def websocket_says(name: str, *texts: str) -> None:
    """One message in as many fragments as there are texts, a ping between them; then what comes back."""
    sock = tls(name)
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    stream = sock.makefile("rb")
    while stream.readline() != b"\r\n":
        pass
    mask = b"\x01\x02\x03\x04"
    for index, text in enumerate(texts):
        data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text.encode()))
        first = (0x80 if index == len(texts) - 1 else 0) | (0 if index else 1)
        with contextlib.suppress(OSError):  # what was closed meanwhile has said why
            sock.sendall(bytes([first, 0x80 | len(data)]) + mask + data + b"\x89\x80" + mask)
        time.sleep(0.1)
    got = b""
    with contextlib.suppress(OSError):
        sock.settimeout(2)
        while part := stream.read1(65536):
            got += part
        got += b"<end>"
    print(got.hex())


def behind_an_upgrade(name: str, path: str, version: str = "13") -> None:
    """Asks for a WebSocket and speaks HTTP behind it; prints the first status and all that came."""
    with socket.create_connection((name, 80), 20) as sock:
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        got = sock.recv(65536)
        with contextlib.suppress(OSError):
            sock.sendall(f"DELETE /behind HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            while data := sock.recv(65536):
                got += data
    print(got.split()[1].decode(), got.decode("latin-1"))


def grpc(name: str) -> None:
    """A stream both ways: each answer is waited for before the next message."""
    sock = tls(name, protocols=("h2",))
    http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    http.initiate_connection()
    http.send_headers(
        1, [(":method", "POST"), (":scheme", "https"), (":authority", name), (":path", "/grpc.Echo/Chat"),
            ("content-type", "application/grpc"), ("te", "trailers")]
    )  # fmt: skip
    sent, got, trailers = 0, b"", None
    sock.sendall(http.data_to_send())
    while trailers is None:
        for event in http.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived) or (
                isinstance(event, h2.events.DataReceived) and event.data
            ):
                if isinstance(event, h2.events.DataReceived):
                    got += event.data
                    http.acknowledge_received_data(event.flow_controlled_length, 1)
                if sent < 5:
                    sent += 1
                    http.send_data(1, b"message %d;" % sent)
                elif sent == 5:
                    sent += 1
                    http.end_stream(1)
            elif isinstance(event, h2.events.TrailersReceived):
                trailers = dict(event.headers or [])
        sock.sendall(http.data_to_send())
    print(got.decode(), trailers)


def grpc_says(name: str, *texts: str) -> None:
    """Messages of gRPC, each said when the one before has come back whole; how many did is printed."""
    sock = tls(name, protocols=("h2",))
    sock.settimeout(5)
    http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    http.initiate_connection()
    http.send_headers(
        1, [(":method", "POST"), (":scheme", "https"), (":authority", name), (":path", "/grpc.Echo/Says"),
            ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-accept-encoding", "gzip")]
    )  # fmt: skip
    back = 0
    with contextlib.suppress(TimeoutError):
        for text in texts:
            message = b"\0" + len(text).to_bytes(4, "big") + text.encode()
            http.send_data(1, message)
            sock.sendall(http.data_to_send())
            got = b""
            while len(got) < len(message):
                for event in http.receive_data(sock.recv(65536)):
                    got += event.data if isinstance(event, h2.events.DataReceived) and event.data else b""
                sock.sendall(http.data_to_send())
            back += got == message
    print(back)


def trailing(name: str, path: str, size: str, value: str, port: str = "443") -> None:
    """A POST of so many bytes in HTTP/2 with a field behind its body; the status is printed."""
    http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    http.initiate_connection()
    http.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", name), (":path", path)])
    for at in range(0, int(size), 16_384):
        http.send_data(1, b"x" * min(16_384, int(size) - at))
    http.send_headers(1, [("x-behind", value)], end_stream=True)
    with tls(name, protocols=("h2",)) if port == "443" else direct(name, int(port)) as sock:
        sock.sendall(http.data_to_send())
        while data := sock.recv(65536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    print({str(key): str(text) for key, text in event.headers or []}[":status"])
                elif isinstance(event, h2.events.StreamEnded):
                    return
            sock.sendall(http.data_to_send())


def direct(name: str, port: int) -> ssl.SSLSocket:
    """To a server on loopback, by another name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20), server_hostname=name)


def connect_h2(name: str, target: str) -> None:
    """CONNECT in a stream of HTTP/2; the status is printed, and by what it is refused."""
    sock = tls(name, protocols=("h2",))
    http = h2.connection.H2Connection(h2.config.H2Configuration())
    http.initiate_connection()
    http.send_headers(1, [(":method", "CONNECT"), (":authority", target)])
    sock.sendall(http.data_to_send())
    while data := sock.recv(65536):
        for event in http.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                head = dict(event.headers or [])
                print(head[b":status"].decode(), head[b"x-capsule-blocked"].decode())
                return
    print("closed")


def flood(name: str, kind: str, count: str) -> None:
    """Frames that carry nothing; `answered` when a request after them is, else why not."""
    frame = {
        "ping": bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8),
        "settings": bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 16, 0]),
        "priority": bytes([0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 16]),
        "empty": bytes([0, 0, 0, 0, 0, 0, 0, 0, 1]),
        "reset": b"",
    }[kind]
    sock = tls(name, protocols=("h2",))
    http = h2.connection.H2Connection(h2.config.H2Configuration())
    http.initiate_connection()
    fields = [(":method", "POST"), (":scheme", "https"), (":authority", name), (":path", "/size")]
    http.send_headers(1, fields)
    sock.sendall(http.data_to_send())
    last = 1
    try:
        for number in range(0, int(count), 10):
            if kind == "reset":
                for last in range(2 * number + 3, 2 * number + 23, 2):
                    http.send_headers(last, fields)
                    http.reset_stream(last)
                sock.sendall(http.data_to_send())
            sock.sendall(frame * 10)
        http.end_stream(1)
        sock.sendall(http.data_to_send())
    except OSError:
        pass
    with contextlib.suppress(OSError):
        while data := sock.recv(65536):
            for event in http.receive_data(data):
                if isinstance(event, h2.events.ConnectionTerminated):
                    print("calm" if event.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM else event)
                    return
                if isinstance(event, h2.events.StreamEnded) and event.stream_id == 1:
                    print("answered")
                    return
    print("closed")


def raw(name: str, port: str, wait: str = "5") -> None:
    """Standard input goes out over TCP; what comes back within `wait` seconds is printed."""
    with socket.create_connection((name, int(port)), 20) as sock:
        exchange(sock, float(wait))


def secure(name: str, sni: str, wait: str = "5") -> None:
    """The same over TLS with a server name of its own, unverified."""
    with tls(name, sni=sni) as sock:
        exchange(sock, float(wait))


def exchange(sock: socket.socket, wait: float) -> None:
    data = sys.stdin.buffer.read().replace(b"\\r\\n", b"\r\n")
    if data:
        sock.sendall(data)
    until = time.monotonic() + wait
    got = b""
    try:
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            part = sock.recv(65536)
            if not part:
                got += b"<end>"
                break
            got += part
    except TimeoutError:
        got += b"<silence>"
    except OSError as error:
        got += f"<{type(error).__name__}>".encode()
    print(got.decode("utf-8", "backslashreplace"), end="")


def half(name: str) -> None:
    """Says all, then listens: the answer comes although the sending side is closed."""
    with socket.create_connection((name, 80), 20) as sock:
        sock.sendall(f"GET /slow/0.3 HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while part := sock.recv(65536):
            got += part
    print(got.decode())


def resolve(*names: str) -> None:
    for name in names:
        try:
            print(name, socket.gethostbyname(name))
        except OSError as error:
            print(name, error.errno)


def many(name: str, count: str) -> None:
    """So many connections at once, then one request on each."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = [socket.create_connection((name, 80), 20) for _ in range(int(count))]
    good = 0
    for sock in socks:
        sock.sendall(f"GET /x HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    for sock in socks:
        sock.settimeout(30)
        with contextlib.suppress(OSError):
            good += sock.recv(65536).startswith(b"HTTP/1.1 200")
    print(good)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
