"""
Cases about the handshake and meta contexts; see libnbd_cases.py, which runs them.
"""
import errno

import nbd
from libnbd_cases import DATA, MIB, SIZE, SOCKET, alive, case, connect, fresh, refused, same, status

CONTEXTS = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:cowtool"]
NAMES = ["", "ro", "odd", "d e/ü"]


def negotiating(name="", prepare=None):
    handle = fresh(name)
    handle.set_opt_mode(True)
    if prepare:
        prepare(handle)
    handle.connect_unix(SOCKET)
    return handle


def listed(handle):
    names = []
    count = handle.opt_list_meta_context(names.append)
    assert count == len(names)
    return names


@case
def a_list_of_the_exports():
    handle = negotiating()
    found = {}
    assert handle.opt_list(lambda name, words: found.update({name: words})) == len(NAMES)
    assert list(found) == NAMES, found
    assert all(found.values()), f"no descriptions: {found}"
    handle.opt_abort()


@case
def the_wrong_name_and_then_the_right_one():
    handle = negotiating("nobody")
    refused(errno.ENOENT, handle.opt_info)
    refused(errno.ENOENT, handle.opt_go)
    assert handle.aio_is_negotiating()
    handle.set_export_name("x" * 4096)
    refused(errno.ENOENT, handle.opt_go)
    handle.set_export_name("odd")
    handle.opt_info()
    assert handle.get_size() == MIB + 777
    handle.set_export_name("")
    handle.opt_go()
    assert handle.get_size() == SIZE
    alive(handle)


@case
def an_export_by_an_odd_name():
    handle = connect("d e/ü", prepare=lambda it: it.set_full_info(True))
    assert handle.get_canonical_export_name() == "d e/ü"
    assert "writable" in handle.get_export_description()
    alive(handle)


@case
def what_INFO_says_GO_repeats():
    seen = []
    handle = negotiating()
    for ask in (handle.opt_info, handle.opt_go):
        ask()
        seen.append(
            [handle.get_size(), handle.is_read_only(), handle.can_fua(), handle.can_flush(), handle.can_df()]
            + [handle.get_block_size(kind) for kind in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM)]
        )
    assert seen[0] == seen[1] == [SIZE, False, True, True, True, 1, 4096, 64 * MIB], seen


@case
def an_abort_and_a_client_that_is_gone():
    for _ in range(50):
        negotiating().opt_abort()
    for _ in range(50):
        negotiating()
    alive(connect())


@case
def without_fixed_newstyle():
    for flags in (0, nbd.HANDSHAKE_FLAG_NO_ZEROES, nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE):
        handle = connect(prepare=lambda it: it.set_handshake_flags(flags))
        assert handle.get_size() == SIZE
        assert handle.get_structured_replies_negotiated() == bool(flags & nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE)
        alive(handle)
        refused(errno.EINVAL, handle.pread, 1, SIZE)
        alive(handle)


@case
def without_structured_replies():
    handle = connect(contexts=CONTEXTS, prepare=lambda it: it.set_request_structured_replies(False))
    assert not handle.get_structured_replies_negotiated()
    assert not handle.can_df() and not handle.can_meta_context("base:allocation")
    data = bytes(range(1, 251)) * 4000
    handle.pwrite(data, 12345)
    same(handle.pread(len(data), 12345), data, "a megabyte by a simple reply")
    refused(errno.EINVAL, handle.pread, 1, SIZE)
    refused(errno.ENOSPC, handle.pwrite, b"x", SIZE)
    refused(errno.EINVAL, handle.pread, 512, 0, nbd.CMD_FLAG_DF)
    same(handle.pread(64 * MIB, 0)[12345 : 12345 + len(data)], data, "64 MiB by a simple reply")
    alive(handle)


@case
def contexts_by_wildcard():
    handle = negotiating()
    assert listed(handle) == CONTEXTS
    for query, expected in (
        ("base:", CONTEXTS[:1]),
        ("qemu:", CONTEXTS[1:]),
        ("qemu:dirty-bitmap:", CONTEXTS[2:]),
        ("base:allocation", CONTEXTS[:1]),
        ("base:nothing", []),
        ("x-other:", []),
        ("no colon", []),
    ):
        handle.clear_meta_contexts()
        handle.add_meta_context(query)
        assert listed(handle) == expected, (query, listed(handle))
    handle.set_export_name("nobody")
    # libnbd has this one name for every refusal of this option.
    refused(errno.ENOTSUP, handle.opt_list_meta_context, lambda _: 0)
    handle.opt_abort()


@case
def contexts_by_choice():
    handle = connect(contexts=["qemu:", "x-other:thing", "qemu:allocation-depth", "base:nothing"])
    assert [handle.can_meta_context(name) for name in CONTEXTS] == [False, True, False]
    assert not handle.can_meta_context("qemu:") and not handle.can_meta_context("x-other:thing")
    assert status(handle, "qemu:allocation-depth", 0, 4096)[0][0] > 0


@case
def no_context_at_all():
    handle = connect()
    refused(errno.EINVAL, handle.block_status, 4096, 0, lambda *_: 0)
    alive(handle)


@case
def one_extent_if_one_is_asked_for():
    handle = connect(contexts=CONTEXTS)
    handle.pwrite(b"1" * 4096, 80 * MIB)
    for context in CONTEXTS:
        for offset, length in ((0, SIZE), (80 * MIB, 4096), (80 * MIB - 1, 3), (SIZE - 1, 1)):
            found = status(handle, context, offset, length, nbd.CMD_FLAG_REQ_ONE)
            assert len(found) == 1 and 0 < found[0][0] <= length, (context, offset, length, found)


@case
def extents_are_merged_and_true():
    handle = connect(contexts=CONTEXTS)
    for i in range(0, 64, 2):
        handle.pwrite(bytes([i + 1]) * 4096, 88 * MIB + i * 4096)
    for context in CONTEXTS:
        offset = 0
        before = None
        while offset < SIZE:
            found = status(handle, context, offset, SIZE - offset)
            flags = [flag for _, flag in found]
            assert all(a != b for a, b in zip(flags, flags[1:])), f"{context}: neighbours with equal flags"
            for length, flag in found:
                assert length > 0
                check(handle, context, offset, length, flag)
                offset += length
            assert before is None or offset > before
            before = offset
        assert offset == SIZE, (context, offset)
    held = status(handle, "qemu:dirty-bitmap:cowtool", 88 * MIB, 64 * 4096)
    assert held[:4] == [(4096, 1), (4096, 0)] * 2, held[:4]


def check(handle, context, offset, length, flag):
    if context == "base:allocation":
        assert flag in (0, 3), f"flags {flag}: HOLE without ZERO is undefined contents"
        if flag == 3:
            sample = min(length, 64 * 1024)
            assert not any(handle.pread(sample, offset)) and not any(handle.pread(sample, offset + length - sample))
    elif context == "qemu:allocation-depth":
        assert flag in (0, 1, 2)
        if flag == 0:
            assert offset >= DATA, "the base holds all of its size, at least its data"
    else:
        assert flag in (0, 1)
