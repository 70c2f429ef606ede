"""An independent peer of the mesh: mutual TLS 1.3 and the transport header of the Linkerd data plane, on Python's own TLS.

    tls-peer.py client HOST PORT [options]   sends --send (or standard input), prints one JSON line
    tls-peer.py server HOST PORT [options]   prints {"listening": PORT}, echoes, prints one JSON line per connection

The TLS runs over memory, so that every byte on the wire is this program's decision: that is how it misbehaves.
"""

import argparse
import json
import select
import socket
import ssl
import struct
import sys
import threading
import time

ALPN = "transport.l5d.io/v1"
PREFACE = ALPN.encode() + b"\r\n\r\n"
SESSIONS = {"http1": 1, "http2": 2}
# What the echo may owe before it stops reading: more would hide that a receiver is slow.
MAX_OWED = 1 << 20
BLOCK = 1 << 16


class Late(Exception):
    """The deadline of a connection has passed."""


class Malformed(Exception):
    """A transport header that breaks the format."""


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_header(port, name, session):
    message = b"\x08" + varint(port)
    if name is not None:
        raw = name.encode()
        message += b"\x12" + varint(len(raw)) + raw
    if session is not None:
        kind = bytes([SESSIONS[session] << 3 | 2, 0])
        message += b"\x1a" + varint(len(kind)) + kind
    return PREFACE + struct.pack(">I", len(message)) + message


def fields_of(message):
    """(number, wire type, value) of a protobuf message; only what a header may contain."""
    at = 0

    def read_varint():
        nonlocal at
        number = shift = 0
        while True:
            if at >= len(message) or shift > 63:
                raise Malformed("varint")
            byte = message[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    found = []
    while at < len(message):
        key = read_varint()
        if key & 7 == 0:
            found.append((key >> 3, 0, read_varint()))
        elif key & 7 == 2:
            size = read_varint()
            if size > len(message) - at:
                raise Malformed("length")
            found.append((key >> 3, 2, message[at : at + size]))
            at += size
        else:
            raise Malformed("wire type %d" % (key & 7))
    return found


def decode_header(data):
    """(header, bytes behind it), or None as long as bytes are missing."""
    if not PREFACE.startswith(data[: len(PREFACE)]):
        raise Malformed("preface")
    if len(data) < len(PREFACE) + 4:
        return None
    (size,) = struct.unpack_from(">I", data, len(PREFACE))
    start = len(PREFACE) + 4
    if len(data) < start + size:
        return None
    header = {"port": 0, "name": None, "session": None}
    for number, wire, value in fields_of(data[start : start + size]):
        if (number, wire) == (1, 0):
            header["port"] = value
        elif (number, wire) == (2, 2):
            header["name"] = value.decode()
        elif (number, wire) == (3, 2):
            kinds = [kind for kind, _, _ in fields_of(value)]
            header["session"] = next((s for s, n in SESSIONS.items() if n in kinds), None)
    return header, data[start + size :]


class Connection:
    """One connection: TLS over memory, a socket, a deadline, and what was seen."""

    def __init__(self, sock, context, options, server, sni=None):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.options = options
        self.server = server
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=sni)
        self.deadline = time.monotonic() + options.timeout
        self.unsent = b""
        self.received = bytearray()
        self.input_ended = False
        self.facts = {"secured": False, "ended": None}

    def wire(self, read=True):
        """Moves bytes once: writes what is due and waits for what is missing."""
        self.unsent += self.outgoing.read()
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Late
        reads, writes = [self.sock] if read else [], [self.sock] if self.unsent else []
        readable, writable, _ = select.select(reads, writes, [], left)
        if writable:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        if readable:
            data = self.sock.recv(BLOCK)
            if data:
                self.incoming.write(data)
            else:
                self.input_ended = True
                self.incoming.write_eof()

    def flush(self):
        self.unsent += self.outgoing.read()
        while self.unsent:
            self.wire(read=False)

    def send_raw(self, data):
        self.unsent += data
        self.flush()

    def handshake(self):
        first = not self.server
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if first:
                    self.send_hello(self.outgoing.read())
                    first = False
                self.wire()
        self.flush()
        self.note_peer()

    def send_hello(self, hello):
        """The ClientHello as the options want it: in one piece, in many records, or in many segments."""
        if self.options.record_bytes:
            body, size = hello[5:], self.options.record_bytes
            parts = [body[i : i + size] for i in range(0, len(body), size)]
            hello = b"".join(hello[:3] + struct.pack(">H", len(part)) + part for part in parts)
        if self.options.misbehave == "stall":
            self.send_raw(hello[: len(hello) // 2])
            self.drain_raw()
        if self.options.misbehave == "oversized-hello":
            # A ClientHello that says it has 100000 bytes; what follows is never the end of it.
            self.send_raw(b"\x16\x03\x01\x40\x00\x01" + (100_000).to_bytes(3, "big") + bytes(16_380))
            self.drain_raw()
        step = self.options.segment_bytes or len(hello)
        for i in range(0, len(hello), step):
            self.send_raw(hello[i : i + step])

    def drain_raw(self):
        """Never goes on: reads what comes until the other side ends it."""
        while not self.input_ended:
            self.wire()
        self.facts["raw"] = self.incoming.read().decode("latin-1")
        raise ssl.SSLEOFError("the peer ended the connection")

    def note_peer(self):
        certificate = self.tls.getpeercert() or {}
        cipher = self.tls.cipher()
        group = getattr(self.tls, "group", None)
        self.facts.update(
            secured=True,
            version=self.tls.version(),
            cipher=cipher and cipher[0],
            group=group() if callable(group) else None,
            alpn=self.tls.selected_alpn_protocol(),
            sans=[list(name) for name in certificate.get("subjectAltName", ())],
            resumed=self.tls.session_reused,
        )

    def take(self):
        """Decrypts what is there: False when nothing was, None at the end of the stream."""
        try:
            data = self.tls.read(BLOCK)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLZeroReturnError:
            data = b""
        if data == b"":
            # Some versions of Python take the end of the connection for a goodbye; a real one is read before that end.
            self.facts["ended"] = "eof" if self.input_ended else "close_notify"
            return None
        self.received += data
        return True

    def say_close(self):
        """Sends close_notify; the other direction stays open."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # The answer of the other side is read later, by take().
        self.flush()

    def run(self, work):
        """Runs `work` and turns every end into a fact."""
        try:
            work()
        except Late:
            self.facts["ended"] = "timeout"
        except ssl.SSLEOFError:
            self.facts["ended"] = "eof"
        except ssl.SSLCertVerificationError as error:
            self.facts.update(ended="refused", error=error.verify_message)
            self.last_words()
        except ssl.SSLError as error:
            self.facts.update(ended="tls-error", error=error.reason)
            self.last_words()
        except (ConnectionResetError, BrokenPipeError):
            self.facts["ended"] = "reset"
        except Malformed as error:
            self.facts.update(ended="malformed", error=str(error))
        finally:
            self.sock.close()
        return self.facts

    def last_words(self):
        """The alert OpenSSL has ready: the other side may have gone already."""
        try:
            self.flush()
        except (Late, OSError) as error:
            self.facts["alert"] = "not sent: %r" % error


def client_work(peer, data):
    options = peer.options
    if options.misbehave == "plaintext":
        peer.send_raw(data)
        peer.drain_raw()
    peer.handshake()
    if options.header_port is not None:
        data = encode_header(options.header_port, options.header_name, options.header_session) + data
    expected = options.expect
    closed = False
    while True:
        state = peer.take()
        if state is None:
            break
        if state:
            continue
        if data and not peer.unsent:
            data = data[peer.tls.write(data[:BLOCK]) :]
        # Only when all that came was read: OpenSSL takes data behind its close_notify for an error.
        done = not data and (options.half_close or (expected is not None and len(peer.received) >= expected))
        if done and options.misbehave == "truncate":
            peer.flush()
            peer.facts["ended"] = "truncated"
            return
        if done and not closed:
            closed = True
            peer.say_close()
        peer.wire()
    if not closed:
        peer.say_close()


def server_work(peer):
    options = peer.options
    if options.misbehave == "plaintext":
        peer.send_raw(b"220 this is no TLS\r\n")
        peer.drain_raw()
    if options.misbehave == "stall":
        peer.drain_raw()
    peer.handshake()
    wants_header = peer.tls.selected_alpn_protocol() == ALPN
    peer.facts["header"] = None
    echoed = 0
    ended = False
    while not ended or len(peer.received) > echoed or peer.unsent:
        owed = len(peer.received) - echoed
        state = peer.take() if not ended and owed < MAX_OWED else False
        ended = ended or state is None
        if state and wants_header:
            read = decode_header(bytes(peer.received))
            if read is None:
                continue
            wants_header = False
            peer.facts["header"], rest = read
            peer.received = bytearray(rest)
        if wants_header and ended:
            raise Malformed("the stream ended before the header did")
        owed = 0 if wants_header else len(peer.received) - echoed
        if owed and not peer.unsent:
            echoed += peer.tls.write(peer.received[echoed : echoed + BLOCK])
        if options.misbehave == "truncate" and echoed:
            peer.flush()
            peer.facts["ended"] = "truncated"
            return
        if not state and not (ended and not owed):
            peer.wire(read=not ended and owed < MAX_OWED)
    peer.say_close()


def context_of(options, server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if options.tls12 else ssl.TLSVersion.TLSv1_3
    if options.tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = not server and not options.any_name
    context.verify_mode = ssl.CERT_NONE if options.trust_anyone else ssl.CERT_REQUIRED
    if options.ca:
        context.load_verify_locations(options.ca)
    if options.cert:
        context.load_cert_chain(options.cert, options.key)
    if options.alpn:
        context.set_alpn_protocols(options.alpn)
    if options.curve:
        context.set_ecdh_curve(options.curve)
    return context


def report(facts, received):
    text = bytes(received[:4096]).decode("latin-1")
    print(json.dumps({**facts, "bytes": len(received), "data": text}), flush=True)


def serve(options):
    context = context_of(options, True)
    listener = socket.create_server((options.host, options.port), backlog=128)
    print(json.dumps({"listening": listener.getsockname()[1]}), flush=True)

    def handle(sock):
        names = []
        peer = Connection(sock, context, options, True)
        # The hook belongs to the context; the object it gets tells whose name it is.
        asked[peer.tls] = names
        facts = peer.run(lambda: server_work(peer))
        del asked[peer.tls]
        report({**facts, "sni": names[0] if names else None}, peer.received)

    asked = {}
    context.sni_callback = lambda tls, name, _: asked[tls].append(name)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=handle, args=(sock,), daemon=True).start()


def ask(options):
    data = sys.stdin.buffer.read() if options.send is None else options.send.encode()
    if options.expect is None and not options.until_end:
        options.expect = len(data)
    sock = socket.create_connection((options.host, options.port), timeout=options.timeout)
    context = context_of(options, False)
    peer = Connection(sock, context, options, False, options.sni)
    report(peer.run(lambda: client_work(peer, data)), peer.received)


def parse():
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("mode", choices=["client", "server"])
    add("host")
    add("port", type=int)
    for name in ("--cert", "--key", "--ca", "--sni", "--curve", "--send", "--header-name"):
        add(name)
    add("--alpn", action="append")
    add("--header-port", type=int)
    add("--header-session", choices=sorted(SESSIONS))
    add("--expect", type=int, help="bytes to wait for before closing; default: as many as were sent")
    add("--until-end", action="store_true", help="never close first")
    add("--half-close", action="store_true", help="close our direction as soon as everything is sent")
    add("--any-name", action="store_true", help="do not check the DNS name of the server against the SNI")
    add("--trust-anyone", action="store_true", help="verify nothing and ask for nothing")
    add("--tls12", action="store_true", help="offer TLS 1.2 and nothing else")
    add("--record-bytes", type=int, help="spread the ClientHello over records of that size")
    add("--segment-bytes", type=int, help="write the ClientHello in pieces of that size")
    add("--timeout", type=float, default=20.0, help="seconds a connection may take")
    add("--misbehave", choices=["stall", "plaintext", "truncate", "oversized-hello"])
    return parser.parse_args()


if __name__ == "__main__":
    parsed = parse()
    (serve if parsed.mode == "server" else ask)(parsed)
