"""HPACK by libnghttp2: reads one JSON array of scripts from stdin and writes one array of their results.

A script is {"role": "deflate" | "inflate", "steps": [...]}. Steps of a deflater: {"size": bytes} tells the table size that the
other side allows, {"fields": [[name, value, never_indexed], ...]} is answered by a block. Steps of an inflater: {"size": bytes}
is what it allows, {"block": hex} is answered by {"fields": [[name, value, never_indexed], ...]} or by {"error": number}, which is
its last answer. Names and values are Latin-1.
"""
import ctypes
import json
import sys

NO_INDEX = 1
FINAL, EMIT = 1, 2

nghttp2 = ctypes.CDLL("libnghttp2.so.14")


class Field(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("name_length", ctypes.c_size_t),
        ("value_length", ctypes.c_size_t),
        ("flags", ctypes.c_uint8),
    ]


nghttp2.nghttp2_hd_deflate_bound.restype = ctypes.c_size_t
nghttp2.nghttp2_hd_deflate_hd.restype = ctypes.c_ssize_t
nghttp2.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t


def deflate(steps):
    deflater = ctypes.c_void_p()
    nghttp2.nghttp2_hd_deflate_new(ctypes.byref(deflater), ctypes.c_size_t(4096))
    blocks = []
    for step in steps:
        if "size" in step:
            nghttp2.nghttp2_hd_deflate_change_table_size(deflater, ctypes.c_size_t(step["size"]))
            continue
        kept = []
        fields = (Field * len(step["fields"]))()
        for field, (name, value, never_indexed) in zip(fields, step["fields"]):
            name, value = name.encode("latin-1"), value.encode("latin-1")
            buffers = ctypes.create_string_buffer(name), ctypes.create_string_buffer(value)
            kept.append(buffers)
            field.name, field.value = map(ctypes.addressof, buffers)
            field.name_length, field.value_length = len(name), len(value)
            field.flags = NO_INDEX if never_indexed else 0
        count = ctypes.c_size_t(len(fields))
        room = nghttp2.nghttp2_hd_deflate_bound(deflater, fields, count)
        block = ctypes.create_string_buffer(room)
        length = nghttp2.nghttp2_hd_deflate_hd(deflater, block, ctypes.c_size_t(room), fields, count)
        if length < 0:
            raise RuntimeError(f"nghttp2_hd_deflate_hd: {length}")
        blocks.append(block.raw[:length].hex())
    nghttp2.nghttp2_hd_deflate_del(deflater)
    return blocks


def inflate_block(inflater, block):
    fields = []
    at = 0
    while True:
        field, flags = Field(), ctypes.c_int(0)
        rest = block[at:]
        used = nghttp2.nghttp2_hd_inflate_hd2(
            inflater, ctypes.byref(field), ctypes.byref(flags), rest, ctypes.c_size_t(len(rest)), 1
        )
        if used < 0:
            return {"error": used}
        at += used
        if flags.value & EMIT:
            name = ctypes.string_at(field.name, field.name_length).decode("latin-1")
            value = ctypes.string_at(field.value, field.value_length).decode("latin-1")
            fields.append([name, value, bool(field.flags & NO_INDEX)])
        if flags.value & FINAL:
            nghttp2.nghttp2_hd_inflate_end_headers(inflater)
            return {"fields": fields}
        if used == 0 and not flags.value & EMIT:
            return {"error": 0}


def inflate(steps):
    inflater = ctypes.c_void_p()
    nghttp2.nghttp2_hd_inflate_new(ctypes.byref(inflater))
    results = []
    for step in steps:
        if "size" in step:
            nghttp2.nghttp2_hd_inflate_change_table_size(inflater, ctypes.c_size_t(step["size"]))
            continue
        results.append(inflate_block(inflater, bytes.fromhex(step["block"])))
        if "error" in results[-1]:
            break
    nghttp2.nghttp2_hd_inflate_del(inflater)
    return results


ROLES = {"deflate": deflate, "inflate": inflate}
json.dump([ROLES[script["role"]](script["steps"]) for script in json.load(sys.stdin)], sys.stdout)
