# SPDX-License-Identifier: Apache-2.0
"""A node of a release yet to come: it speaks versions 200 to 201 of the protocol, and no other."""
import contextlib
import socket
import ssl
import struct
import threading


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def hello(cluster):
    """docs/formats/wire-frames.md: a frame of version 1 for ever."""
    name = cluster.encode()
    header = struct.pack("<BBBHH", 200, 201, 0, 16, len(name)) + name
    frame = struct.pack("<4sBBHQQIIIIIIIII", b"SHLF", 1, 1, 0, 0, 0, len(header), 0, 0, 0, 0, 0, 0,
                        crc32c(header), 0)
    return frame + struct.pack("<I", crc32c(frame)) + header


@contextlib.contextmanager
def later_release(cluster, ca, certificate, key):
    """Gives the address at which it listens."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                tls.settimeout(5)
                tls.recv(4096)
                tls.sendall(hello(cluster))
                tls.recv(4096)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield "127.0.0.1:%d" % listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
