# SPDX-License-Identifier: Apache-2.0
"""Pinned BPF maps read by system calls: what bpftool prints of hundreds of texts takes an emulated guest
seconds to print and to read."""
import ctypes
import errno
import os
import struct

from .agent import LIBC
from .tap import Failure

BPF = 321  # the system call's number on x86-64
LOOKUP_ELEM, GET_NEXT_KEY, OBJ_GET, OBJ_GET_INFO_BY_FD = 1, 4, 7, 15


def _bpf(command, *fields):
    """fields: struct format and values of the attributes. The descriptor or 0, else -errno."""
    attributes = ctypes.create_string_buffer(128)
    struct.pack_into(fields[0], attributes, 0, *fields[1:])
    result = LIBC.syscall(BPF, command, attributes, 128)
    return result if result >= 0 else -ctypes.get_errno()


def _sizes(fd):
    """Of key and value."""
    info = ctypes.create_string_buffer(64)
    if _bpf(OBJ_GET_INFO_BY_FD, "<IIQ", fd, 64, ctypes.addressof(info)):
        raise Failure("a map does not say what it is")
    return struct.unpack_from("<II", info, 8)  # after type and id


def _open(path):
    name = ctypes.create_string_buffer(path.encode())
    fd = _bpf(OBJ_GET, "<Q", ctypes.addressof(name))
    if fd < 0:
        raise Failure(f"{path}: {os.strerror(-fd)}")
    return fd


def stored(path, one):
    """Whether this socket has a value in a map of socket storage."""
    fd = _open(path)
    try:
        value = ctypes.create_string_buffer(_sizes(fd)[1])
        key = ctypes.create_string_buffer(struct.pack("<i", one.fileno()), 4)
        code = _bpf(LOOKUP_ELEM, "<IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
        if code not in (0, -errno.ENOENT):
            raise Failure(f"{path}: {os.strerror(-code)}")
        return code == 0
    finally:
        os.close(fd)


def entries(path):
    """Key and value of each entry, as bytes and in order. Not for maps with a value for each CPU."""
    fd = _open(path)
    try:
        found = []
        key, value = (ctypes.create_string_buffer(size) for size in _sizes(fd))
        last = 0
        while not (code := _bpf(GET_NEXT_KEY, "<IxxxxQQ", fd, last, ctypes.addressof(key))):
            code = _bpf(LOOKUP_ELEM, "<IxxxxQQQ", fd, ctypes.addressof(key), ctypes.addressof(value), 0)
            if code:
                raise Failure(f"{path}: an entry cannot be read: {os.strerror(-code)}")
            found.append((key.raw, value.raw))
            last = ctypes.addressof(key)
        if code != -errno.ENOENT:
            raise Failure(f"{path}: {os.strerror(-code)}")
        return sorted(found)
    finally:
        os.close(fd)
