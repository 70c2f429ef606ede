"""The client and the server of the gRPC interoperability tests on Python's grpcio, as grpc-client.ts and grpc-server.ts are on
grpc-js; messages are bytes here too (grpc-messages.ts says what is in them).

  grpc-peer.py server IP PORT     serves until it is killed
  grpc-peer.py client IP:PORT     prints what came of each case as JSON
"""

import json
import queue
import sys
import threading
import time
import traceback
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc

SERVICE = "/grpc.testing.TestService/"
WITNESS = "/ferrule.testing.Witness/"
ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
# Without limits of messages, and never through a proxy that the environment names.
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]


# --- messages ---------------------------------------------------------------------------------------------------------------------


def payload_of(size):
    period = bytes((index * 7 + size) % 256 for index in range(256))
    return (period * (size // 256 + 1))[:size]


def varint(value):
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def message(*fields):
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            if value:
                parts += [varint(number * 8), varint(value)]
        elif value:
            parts += [varint(number * 8 + 2), varint(len(value)), value]
    return b"".join(parts)


def fields_of(data):
    fields = {}
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while at < len(data):
        key = number()
        value = number()
        if key & 7 == 2:
            value, at = data[at : at + value], at + value
        fields.setdefault(key >> 3, []).append(value)
    return fields


def payload_in(data, field=1):
    payloads = fields_of(data).get(field, [b""])
    return fields_of(payloads[0]).get(2, [b""])[0]


def number_in(data):
    return fields_of(data).get(1, [0])[0]


def payload_message(payload):
    return message((1, message((2, payload))))


def status_field(status):
    return b"" if status is None else message((1, status[0].value[0]), (2, status[1].encode()))


def simple_request(size, payload=b"", status=None):
    return message((2, size), (3, message((2, payload))), (7, status_field(status)))


def streaming_request(sizes, payload=b"", status=None):
    parameters = [(2, message((1, size))) for size in sizes]
    return message(*parameters, (3, message((2, payload))), (7, status_field(status)))


# --- server -----------------------------------------------------------------------------------------------------------------------

CODES = {code.value[0]: code for code in grpc.StatusCode}
cancellations = Counter()


def name_of(context):
    return dict(context.invocation_metadata()).get(ECHO_INITIAL, "")


def echo(context):
    """Sends metadata back."""
    received = dict(context.invocation_metadata())
    if ECHO_INITIAL in received:
        context.send_initial_metadata(((ECHO_INITIAL, received[ECHO_INITIAL]),))
    if ECHO_TRAILING in received:
        context.set_trailing_metadata(((ECHO_TRAILING, received[ECHO_TRAILING]),))


def end_as_asked(fields, context):
    for status in fields.get(7, []):
        parts = fields_of(status)
        context.abort(CODES[parts[1][0]], parts.get(2, [b""])[0].decode())


class Watched:
    """Counts the call unless it is left before it has ended otherwise."""

    def __init__(self, context):
        self.name = name_of(context)
        self.finished = False
        self.over = threading.Event()
        context.add_callback(self.ended)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        # Messages of a call that was given up may just end, a moment before we are told; the calls that are looked at have names.
        gone = self.name != "" and self.over.wait(0.1)
        # Plain exceptions are how grpcio ends a call with a status; a call that is gone raises others.
        self.finished = not gone and kind in (None, Exception)

    def ended(self):
        self.over.set()
        if not self.finished:
            cancellations[self.name] += 1


def unary_call(request, context):
    echo(context)
    fields = fields_of(request)
    end_as_asked(fields, context)
    return payload_message(payload_of(fields.get(2, [0])[0]))


def streaming_input(requests, context):
    with Watched(context):
        return message((1, sum(len(payload_in(request)) for request in requests)))


def streaming_output(request, context):
    with Watched(context):
        for parameters in fields_of(request).get(2, []):
            yield payload_message(payload_of(number_in(parameters)))


def full_duplex(requests, context):
    echo(context)
    with Watched(context):
        for request in requests:
            fields = fields_of(request)
            for parameters in fields.get(2, []):
                yield payload_message(payload_of(number_in(parameters)))
            end_as_asked(fields, context)


def deadline(_request, context):
    left = context.time_remaining()
    # Without a deadline some versions say so, others name a time that is years away.
    return message((1, 0 if left is None or left > 1e6 else max(round(left * 1000), 0)))


def serve(host, port):
    # Connections that nobody uses end soon: tests wait for the end of the proxies' own.
    options = [*OPTIONS, ("grpc.max_connection_idle_ms", 2000)]
    server = grpc.server(ThreadPoolExecutor(max_workers=64), options=options)
    service = {
        "EmptyCall": grpc.unary_unary_rpc_method_handler(lambda _request, _context: b""),
        "UnaryCall": grpc.unary_unary_rpc_method_handler(unary_call),
        "StreamingInputCall": grpc.stream_unary_rpc_method_handler(streaming_input),
        "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(streaming_output),
        "FullDuplexCall": grpc.stream_stream_rpc_method_handler(full_duplex),
    }
    witness = {
        "Cancellations": grpc.unary_unary_rpc_method_handler(
            lambda _request, context: message((1, cancellations[name_of(context)]))
        ),
        "Deadline": grpc.unary_unary_rpc_method_handler(deadline),
    }
    for path, methods in ((SERVICE, service), (WITNESS, witness)):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(path.strip("/"), methods),))
    if server.add_insecure_port(f"{host}:{port}") == 0:
        sys.exit(f"cannot listen on {host}:{port}")
    server.start()
    server.wait_for_termination()


# --- client -----------------------------------------------------------------------------------------------------------------------

LARGE_REQUEST, LARGE_ANSWER = 271_828, 314_159
REQUESTS = (27_182, 8, 1_828, 45_904)
ANSWERS = (31_415, 9, 2_653, 58_979)
MESSAGE = "test status message"
SPECIAL_MESSAGE = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
TOLD_SECONDS = 10
DEADLINE_SECONDS = 20


def expect(right, what):
    if not right:
        raise AssertionError(what)


def equal(found, expected):
    expect(found == expected, f"{found!r} instead of {expected!r}")


class Conversation:
    """A FullDuplexCall whose messages are sent when we want."""

    def __init__(self, stub, **options):
        self.requests = queue.SimpleQueue()
        self.call = stub.full_duplex(iter(self.requests.get, None), **options)

    def send(self, *arguments, **options):
        self.requests.put(streaming_request(*arguments, **options))

    def end(self):
        self.requests.put(None)

    def receive(self, size):
        expect(payload_in(next(self.call)) == payload_of(size), f"the payload of {size} bytes")

    def finish(self):
        self.end()
        equal(list(self.call), [])
        equal(self.call.code(), grpc.StatusCode.OK)


class Stub:
    """The methods over one connection."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, options=OPTIONS)
        self.empty = self.channel.unary_unary(SERVICE + "EmptyCall")
        self.unary = self.channel.unary_unary(SERVICE + "UnaryCall")
        self.input = self.channel.stream_unary(SERVICE + "StreamingInputCall")
        self.output = self.channel.unary_stream(SERVICE + "StreamingOutputCall")
        self.full_duplex = self.channel.stream_stream(SERVICE + "FullDuplexCall")
        self.cancellations = self.channel.unary_unary(WITNESS + "Cancellations")
        self.deadline = self.channel.unary_unary(WITNESS + "Deadline")

    def expect_unary(self, size, payload, **options):
        answer, call = self.unary.with_call(simple_request(size, payload), **options)
        expect(payload_in(answer) == payload_of(size), f"the payload of {size} bytes")
        return call

    def expect_empty(self):
        equal(self.empty(b""), b"")


def failure_of(call):
    """The error a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


def client_streaming(stub):
    messages = (payload_message(payload_of(size)) for size in REQUESTS)
    equal(number_in(stub.input(messages)), 74_922)


def server_streaming(stub):
    answers = list(stub.output(streaming_request(ANSWERS)))
    equal([len(payload_in(answer)) for answer in answers], list(ANSWERS))
    for answer, size in zip(answers, ANSWERS):
        expect(payload_in(answer) == payload_of(size), f"the payload of {size} bytes")


def ping_pong(stub):
    talk = Conversation(stub)
    for request, answer in zip(REQUESTS, ANSWERS):
        talk.send([answer], payload_of(request))
        talk.receive(answer)
    talk.finish()


def custom_metadata(stub):
    binary = b"\xab\xab\xab"
    metadata = ((ECHO_INITIAL, "test_initial_metadata_value"), (ECHO_TRAILING, binary))

    def expect_echo(call):
        equal(dict(call.initial_metadata()).get(ECHO_INITIAL), "test_initial_metadata_value")
        equal(dict(call.trailing_metadata()).get(ECHO_TRAILING), binary)

    expect_echo(stub.expect_unary(LARGE_ANSWER, payload_of(LARGE_REQUEST), metadata=metadata))
    talk = Conversation(stub, metadata=metadata)
    talk.send([LARGE_ANSWER], payload_of(LARGE_REQUEST))
    talk.receive(LARGE_ANSWER)
    talk.finish()
    expect_echo(talk.call)


def expect_status(stub, text):
    status = (grpc.StatusCode.UNKNOWN, text)
    error = failure_of(lambda: stub.unary(simple_request(0, status=status)))
    equal((error.code(), error.details()), status)
    talk = Conversation(stub)
    talk.send([], status=status)
    talk.end()
    error = failure_of(lambda: list(talk.call))
    equal((error.code(), error.details()), status)


def unimplemented(stub, path):
    error = failure_of(lambda: stub.channel.unary_unary(path)(b""))
    equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)
    stub.expect_empty()


def cancel_after_begin(stub):
    messages = queue.SimpleQueue()
    call = stub.input.future(iter(messages.get, None))
    call.cancel()
    messages.put(None)
    equal(call.code(), grpc.StatusCode.CANCELLED)
    stub.expect_empty()


def expect_server_told(stub, leave):
    """Runs what makes a call with this metadata end early, and waits until the server has heard of it, once."""
    metadata = ((ECHO_INITIAL, str(uuid.uuid4())),)
    leave(metadata)
    deadline = time.monotonic() + TOLD_SECONDS
    while number_in(stub.cancellations(b"", metadata=metadata)) == 0:
        expect(time.monotonic() < deadline, "the server was not told that the call is over")
        time.sleep(0.02)
    equal(number_in(stub.cancellations(b"", metadata=metadata)), 1)


def cancel_after_first_response(stub):
    def leave(metadata):
        talk = Conversation(stub, metadata=metadata)
        talk.send([ANSWERS[0]], payload_of(REQUESTS[0]))
        talk.receive(ANSWERS[0])
        talk.call.cancel()
        talk.end()
        equal(failure_of(lambda: next(talk.call)).code(), grpc.StatusCode.CANCELLED)

    expect_server_told(stub, leave)


def timeout_on_sleeping_server(stub):
    talk = Conversation(stub, timeout=0.001)
    talk.send([], payload_of(REQUESTS[0]))
    error = failure_of(lambda: next(talk.call))
    talk.end()
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
    stub.expect_empty()


def timeout_in_the_middle(stub):
    def leave(metadata):
        talk = Conversation(stub, metadata=metadata, timeout=1)
        talk.send([9])
        talk.receive(9)
        error = failure_of(lambda: next(talk.call))
        talk.end()
        equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    expect_server_told(stub, leave)


def deadline_told(stub):
    equal(number_in(stub.deadline(b"")), 0)
    left = number_in(stub.deadline(b"", timeout=DEADLINE_SECONDS))
    # gRPC rounds what it sends up to three digits.
    expect(0 < left <= DEADLINE_SECONDS * 1010, f"{left} ms of {DEADLINE_SECONDS} s left")


def mixed_calls(stub):
    def unary(index):
        stub.expect_unary(index * 997 % 40_000, payload_of(index * 641 % 20_000))

    def stream(index):
        talk = Conversation(stub)
        for turn in range(25):
            size = 1 + (index + turn * 411) % 9_000
            talk.send([size, size + 1], payload_of(size))
            talk.receive(size)
            talk.receive(size + 1)
        talk.finish()

    with ThreadPoolExecutor(max_workers=32) as pool:
        calls = [pool.submit(stream, index) for index in range(20)]
        calls += [pool.submit(unary, index) for index in range(300)]
        for call in calls:
            call.result()


CASES = {
    "empty_unary": Stub.expect_empty,
    "large_unary": lambda stub: stub.expect_unary(LARGE_ANSWER, payload_of(LARGE_REQUEST)),
    "client_streaming": client_streaming,
    "server_streaming": server_streaming,
    "ping_pong": ping_pong,
    "empty_stream": lambda stub: Conversation(stub).finish(),
    "custom_metadata": custom_metadata,
    "status_code_and_message": lambda stub: expect_status(stub, MESSAGE),
    "special_status_message": lambda stub: expect_status(stub, SPECIAL_MESSAGE),
    "unimplemented_method": lambda stub: unimplemented(stub, SERVICE + "UnimplementedCall"),
    "unimplemented_service": lambda stub: unimplemented(stub, "/grpc.testing.UnimplementedService/UnimplementedCall"),
    "cancel_after_begin": cancel_after_begin,
    "cancel_after_first_response": cancel_after_first_response,
    "timeout_on_sleeping_server": timeout_on_sleeping_server,
    "timeout_in_the_middle": timeout_in_the_middle,
    "deadline_told": deadline_told,
    "mixed_calls": mixed_calls,
}


def run_client(address):
    stub = Stub(address)
    outcomes = []
    for name, run in CASES.items():
        try:
            run(stub)
            wrong = ""
        except Exception:
            wrong = traceback.format_exc()
        outcomes.append({"name": name, "wrong": wrong})
    stub.channel.close()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(sys.argv[2], sys.argv[3])
    else:
        run_client(sys.argv[2])
