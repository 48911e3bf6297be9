# SPDX-License-Identifier: Apache-2.0
"""Agents for the tests: one by grpcio, which shares no code with the client, and a raw socket for what
no library would send."""
import concurrent.futures
import os
import queue
import socket
import threading

import grpc

END = object()


class Stream:
    """One open call. put() sends a message; abort() ends it with a status."""

    def __init__(self, request, context):
        self.request = request
        self.metadata = dict(context.invocation_metadata())
        self.context = context
        self.queue = queue.Queue()

    def put(self, message):
        self.queue.put(message)

    def abort(self, code, text):
        self.queue.put((code, text))

    def end(self):
        self.queue.put(END)

    def answers(self):
        while self.context.is_active():
            try:
                item = self.queue.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is END:
                return
            if isinstance(item, tuple):
                self.context.abort(*item)
            yield item


class Agent:
    """A gRPC server at path. methods: name of a method -> (request class, function); the function is
    called with each new Stream, and may put what is to be answered at once."""

    def __init__(self, path, service, methods):
        self.path, self.service, self.methods = path, service, methods
        self.streams = {name: [] for name in methods}
        self.server = None
        self.start()

    def _handler(self, name, request_class, begin):
        def serve(request, context):
            stream = Stream(request, context)
            self.streams[name].append(stream)
            begin(stream)
            yield from stream.answers()

        return grpc.unary_stream_rpc_method_handler(
            serve, request_deserializer=request_class.FromString,
            response_serializer=lambda message: message if isinstance(message, bytes)
            else message.SerializeToString())

    def start(self):
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=64),
                                  options=[("grpc.max_send_message_length", -1)])
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
            self.service, {name: self._handler(name, *what) for name, what in self.methods.items()}),))
        self.server.add_insecure_port("unix:" + self.path)
        self.server.start()

    def stop(self, grace=None):
        self.server.stop(grace).wait()
        for streams in self.streams.values():
            streams.clear()


def frame(kind, flags, stream, payload=b""):
    """One frame of HTTP/2 (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def literal(name, value):
    """A header field without indexing, without Huffman (RFC 7541 section 6.2.2)."""
    name, value = name.encode(), value if isinstance(value, bytes) else value.encode()
    assert len(name) < 127

    def length(number):
        if number < 127:
            return bytes([number])
        number -= 127
        out = b"\x7f"
        while number >= 128:
            out += bytes([number % 128 | 128])
            number //= 128
        return out + bytes([number])

    return b"\x00" + length(len(name)) + name + length(len(value)) + value


def headers(stream=1, status="200", content_type="application/grpc", flags=END_HEADERS, more=b""):
    return frame(HEADERS, flags, stream,
                 literal(":status", status) + literal("content-type", content_type) + more)


def message(payload, compressed=0, length=None):
    return bytes([compressed]) + (len(payload) if length is None else length).to_bytes(4, "big") + payload


def data(payload, stream=1, flags=0):
    """As many frames as it takes (16384 bytes each)."""
    pieces = [payload[i:i + 16384] for i in range(0, len(payload), 16384)] or [b""]
    return b"".join(frame(DATA, flags if i == len(pieces) - 1 else 0, stream, piece)
                    for i, piece in enumerate(pieces))


class RawAgent:
    """Accepts connections at path; talk(socket) does the rest of each in a thread of its own."""

    def __init__(self, path, talk):
        if os.path.exists(path):
            os.unlink(path)
        self.talk = talk
        self.accepted = 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                self.talk(connection)
            except OSError:
                pass

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def listen_until_closed(connection):
    while connection.recv(65536):
        pass
