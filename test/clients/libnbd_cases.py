"""
Cases for cowtool's NBD server, asked by libnbd with its own checks off (strict mode 0), so that what a careful client
would never send reaches the server. Knows nothing of cowtool but the exports that libnbd.test.ts serves:

  ""     96 MiB, writable: 32 MiB of which no byte is zero, then a hole
  "ro"   1 MiB, read-only
  "odd"  1 MiB + 777 bytes, read-only: every byte is 0x6f
  "d e/ü" 1 MiB, writable

Runs every case on a connection of its own, and prints one JSON object: name of the case -> null, or what went wrong.
"""
import errno
import json
import sys
import traceback

import nbd

SOCKET = sys.argv[1]
MIB = 1 << 20
SIZE = 96 * MIB
DATA = 32 * MIB
CASES = {}


def case(function):
    CASES[function.__name__.replace("_", " ")] = function
    return function


def fresh(name=""):
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.set_export_name(name)
    return handle


def connect(name="", contexts=(), prepare=None):
    handle = fresh(name)
    for context in contexts:
        handle.add_meta_context(context)
    if prepare:
        prepare(handle)
    handle.connect_unix(SOCKET)
    return handle


def refused(expected, call, *args):
    """The call fails with this errno, and no other way."""
    try:
        call(*args)
    except nbd.Error as error:
        got = errno.errorcode.get(error.errnum, error.errnum)
        assert error.errnum == expected, f"{call.__name__}: {errno.errorcode[expected]} expected, not {got}: {error}"
        return
    raise AssertionError(f"{call.__name__}: {errno.errorcode[expected]} expected, but it went well")


def alive(handle):
    """The stream is still in step."""
    assert len(handle.pread(4096, 0)) == 4096


def same(got, expected, what):
    if got != expected:
        at = next((i for i, (a, b) in enumerate(zip(got, expected)) if a != b), min(len(got), len(expected)))
        raise AssertionError(f"{what}: {len(got)} bytes for {len(expected)}, different from byte {at} on")


@case
def past_the_end():
    handle = connect()
    for offset, length in ((SIZE, 1), (SIZE - 1, 2), (SIZE + 4096, 4096), (2**63, 512), (2**64 - 512, 512), (2**64 - 1, 1)):
        refused(errno.EINVAL, handle.pread, length, offset)
        refused(errno.ENOSPC, handle.pwrite, b"x" * length, offset)
        refused(errno.ENOSPC, handle.zero, length, offset)
        refused(errno.EINVAL, handle.trim, length, offset)
        refused(errno.EINVAL, handle.cache, length, offset)
    refused(errno.ENOSPC, handle.zero, 2**32 - 1, 0)
    refused(errno.EINVAL, handle.trim, 2**32 - 1, 0)
    refused(errno.EINVAL, handle.pread, 512, SIZE - 511, nbd.CMD_FLAG_DF)
    alive(handle)


@case
def block_status_past_the_end():
    handle = connect(contexts=["base:allocation"])
    refused(errno.EINVAL, handle.block_status, 1, SIZE, lambda *_: 0)
    refused(errno.EINVAL, handle.block_status, 4096, SIZE - 4095, lambda *_: 0)
    refused(errno.EINVAL, handle.block_status, 2**32 - 1, 2**64 - 1, lambda *_: 0)
    alive(handle)


@case
def nothing_at_all():
    handle = connect(contexts=["base:allocation"])
    for offset in (0, 1, SIZE):
        same(handle.pread(0, offset), b"", "a read of nothing")
        handle.pwrite(b"", offset)
        handle.zero(0, offset)
        handle.trim(0, offset)
        handle.cache(0, offset)
    refused(errno.EINVAL, handle.block_status, 0, 0, lambda *_: 0)
    alive(handle)


@case
def the_last_byte_of_an_odd_size():
    handle = connect("odd", ["base:allocation"])
    size = handle.get_size()
    assert size == MIB + 777, size
    same(handle.pread(777, MIB), b"\x6f" * 777, "the odd end")
    same(handle.pread(1, size - 1), b"\x6f", "the last byte")
    refused(errno.EINVAL, handle.pread, 2, size - 1)
    extents = status(handle, "base:allocation", 0, size)
    assert sum(length for length, _ in extents) == size, extents


@case
def large_writes_and_reads():
    handle = connect()
    for length in (33 * MIB, 64 * MIB):
        data = bytes([length // MIB]) * length
        handle.pwrite(data, 777)
        same(handle.pread(length, 777), data, f"{length} bytes")
        same(handle.pread(length, 777, nbd.CMD_FLAG_DF), data, f"{length} bytes with DF")
    # Behind the end there is nothing: the payload of 64 MiB is passed over and the next request understood.
    refused(errno.ENOSPC, handle.pwrite, bytes(64 * MIB), DATA + 1)
    alive(handle)


@case
def unknown_flags():
    handle = connect(contexts=["base:allocation"])
    for flag in (1 << 6, 1 << 9, 1 << 15):
        refused(errno.EINVAL, handle.pread, 512, 0, flag)
        refused(errno.EINVAL, handle.pwrite, b"x" * 512, 0, flag)
        refused(errno.EINVAL, handle.zero, 512, 0, flag)
        refused(errno.EINVAL, handle.trim, 512, 0, flag)
        refused(errno.EINVAL, handle.cache, 512, 0, flag)
        refused(errno.EINVAL, handle.flush, flag)
        refused(errno.EINVAL, handle.block_status, 512, 0, lambda *_: 0, flag)
    alive(handle)


@case
def flags_of_other_commands():
    handle = connect(contexts=["base:allocation"])
    refused(errno.EINVAL, handle.pread, 512, 0, nbd.CMD_FLAG_NO_HOLE)
    refused(errno.EINVAL, handle.pread, 512, 0, nbd.CMD_FLAG_REQ_ONE)
    refused(errno.EINVAL, handle.pwrite, b"x" * 512, 0, nbd.CMD_FLAG_FAST_ZERO)
    refused(errno.EINVAL, handle.pwrite, b"x" * 512, 0, nbd.CMD_FLAG_DF)
    refused(errno.EINVAL, handle.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
    refused(errno.EINVAL, handle.zero, 512, 0, nbd.CMD_FLAG_DF)
    refused(errno.EINVAL, handle.block_status, 512, 0, lambda *_: 0, nbd.CMD_FLAG_DF)
    alive(handle)


@case
def FUA_everywhere():
    handle = connect(contexts=["base:allocation"])
    fua = nbd.CMD_FLAG_FUA
    handle.pwrite(b"f" * 4096, 8192, fua)
    same(handle.pread(4096, 8192, fua), b"f" * 4096, "a write with FUA")
    handle.zero(4096, 8192, fua)
    handle.trim(4096, 8192, fua)
    handle.cache(4096, 8192, fua)
    handle.flush(fua)
    handle.block_status(4096, 8192, lambda *_: 0, fua)


@case
def zeros_over_data_of_the_base():
    handle = connect(contexts=["base:allocation"])
    assert handle.can_fast_zero() and handle.can_zero()
    for flags in (0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO):
        for offset, length in ((20 * MIB + 1, 3), (20 * MIB + 1000, 100_000), (21 * MIB, 4 * MIB)):
            handle.pwrite(b"\xee" * (length + 2), offset - 1)
            try:
                handle.zero(length, offset, flags)
            except nbd.Error as error:
                assert flags == nbd.CMD_FLAG_FAST_ZERO and error.errnum == errno.ENOTSUP, error
                continue
            same(handle.pread(length + 2, offset - 1), b"\xee" + bytes(length) + b"\xee", f"zeros, flags {flags}")
    refused(errno.ENOTSUP, handle.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
    handle.zero(MIB, 21 * MIB, nbd.CMD_FLAG_NO_HOLE)
    assert status(handle, "base:allocation", 21 * MIB, MIB)[0][0] >= MIB


@case
def a_trim_never_uncovers_the_base():
    handle = connect()
    for offset, length in ((24 * MIB, 64 * 1024), (25 * MIB + 13, 5000), (26 * MIB, 4 * MIB)):
        handle.pwrite(b"\xaa" * length, offset)
        handle.trim(length, offset)
        left = set(handle.pread(length, offset))
        assert left <= {0, 0xAA}, f"the base shows through at {offset}: {sorted(left)}"
    handle.trim(MIB, 31 * MIB)
    left = set(handle.pread(MIB, 31 * MIB))
    assert left == {0} or 0 not in left, "a trim over the base alone makes zeros, or does nothing"


@case
def the_chunks_of_a_read():
    handle = connect()
    handle.zero(MIB, 40 * MIB)

    def chunks(length, offset, flags=0):
        seen = []
        handle.pread_structured(length, offset, lambda part, at, kind, _: seen.append((at, len(part), kind)), flags)
        ends = [at + size for at, size, _ in sorted(seen)]
        starts = [at for at, _, _ in sorted(seen)]
        assert starts == [offset, *ends[:-1]] and ends[-1] == offset + length, f"gaps or overlaps: {seen}"
        return seen

    assert any(kind == nbd.READ_HOLE for _, _, kind in chunks(16 * MIB, DATA - 8 * MIB + 5))
    assert len(chunks(16 * MIB, DATA - 8 * MIB + 5, nbd.CMD_FLAG_DF)) == 1


@case
def a_read_only_export():
    handle = connect("ro")
    assert handle.is_read_only() and handle.can_multi_conn() and handle.can_cache()
    assert not (handle.can_trim() or handle.can_zero() or handle.can_fua())
    for flags in (0, nbd.CMD_FLAG_FUA):
        refused(errno.EPERM, handle.pwrite, b"x" * 4096, 0, flags)
        refused(errno.EPERM, handle.zero, 4096, 0, flags)
        refused(errno.EPERM, handle.trim, 4096, 0, flags)
    refused(errno.EPERM, handle.pwrite, b"x" * (33 * MIB), 0)
    refused(errno.EPERM, handle.pwrite, b"x", MIB)
    refused(errno.EINVAL, handle.pread, 1, MIB)
    handle.flush()
    handle.cache(4096, 0)
    alive(handle)


@case
def a_flush_speaks_for_all_connections():
    handles = [connect() for _ in range(8)]
    assert all(handle.can_multi_conn() for handle in handles)
    for i, handle in enumerate(handles):
        handle.pwrite(bytes([i + 1]) * 5000, 50 * MIB + i * 5000)
    handles[0].flush()
    for handle in handles:
        expected = b"".join(bytes([i + 1]) * 5000 for i in range(8))
        same(handle.pread(40_000, 50 * MIB), expected, "what others wrote")
    for handle in handles:
        handle.shutdown()


@case
def sixty_four_connections():
    handles = [connect() for _ in range(64)]
    for handle in handles:
        alive(handle)
    for handle in handles:
        handle.shutdown()


@case
def a_goodbye_with_requests_in_flight():
    handle = connect()
    buffers = [nbd.Buffer.from_bytearray(bytearray(bytes([i + 1]) * 65536)) for i in range(100)]
    cookies = [handle.aio_pwrite(buffer, 60 * MIB + i * 65536) for i, buffer in enumerate(buffers)]
    handle.aio_disconnect()
    while not handle.aio_is_closed() and not handle.aio_is_dead():
        handle.poll(-1)
    done = sum(1 for cookie in cookies if handle.aio_command_completed(cookie))
    assert done == 100, f"{done} of 100 requests before the goodbye were answered"
    later = connect()
    for i in range(100):
        same(later.pread(65536, 60 * MIB + i * 65536), bytes([i + 1]) * 65536, f"write {i}")


@case
def clients_that_vanish():
    for i in range(20):
        handle = connect()
        buffer = nbd.Buffer.from_bytearray(bytearray(4 * MIB))
        for k in range(4):
            handle.aio_pwrite(buffer, 70 * MIB)
            handle.aio_pread(buffer, k * MIB)
        if i % 2:
            handle.poll(0)
        del handle
    alive(connect())


def status(handle, context, offset, length, flags=0):
    """Extents of one answer: (length, flags)."""
    found = []

    def take(name, at, entries, _):
        assert at == offset
        if name == context:
            found.extend(zip(entries[::2], entries[1::2]))

    handle.block_status(length, offset, take, flags)
    return found


def main():
    # The rest of the cases; they use what is above.
    import libnbd_options  # noqa: F401  pylint: disable=import-outside-toplevel,unused-import

    outcome = {}
    for name, run in CASES.items():
        try:
            run()
            outcome[name] = None
        except Exception:  # pylint: disable=broad-except
            outcome[name] = traceback.format_exc(limit=-2)
    print(json.dumps(outcome))


if __name__ == "__main__":
    sys.modules["libnbd_cases"] = sys.modules["__main__"]
    main()
