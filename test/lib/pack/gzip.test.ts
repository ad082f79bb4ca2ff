/**
 * Proves that gzip packs are read whoever wrote them: members of any number and size, with all that RFC 1952 lets stand in
 * a header, wherever their borders fall; and that each part of a member counts.
 */
import { crc32, deflateRawSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { denseCow, firstDifference, payloadOf, tinyCow, unpackInMemory } from "../../support/images/pack-images.ts";

const FLAGS = { text: 1, headerCrc: 2, extra: 4, name: 8, comment: 16 } as const;
/** As much as is read of a file at once. */
const READ_BYTES = 256 * 1024;

const tiny = tinyCow();
const dense = denseCow(1100);

interface Dressing {
  readonly flags?: number;
  readonly extraBytes?: number;
  readonly name?: string;
  readonly level?: number;
}

/** A member by the RFC, with everything in its header that the flags announce. */
function memberOf(content: Uint8Array, { flags = 0, extraBytes = 0, name = "", level = 6 }: Dressing = {}): Buffer {
  const parts = [Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255])];
  if (flags & FLAGS.extra) parts.push(Buffer.of(extraBytes & 255, extraBytes >> 8), Buffer.alloc(extraBytes, 0x1f));
  if (flags & FLAGS.name) parts.push(Buffer.from(`${name}\0`));
  if (flags & FLAGS.comment) parts.push(Buffer.from("a comment \u001f\u008b\0", "latin1"));
  const trailer = Buffer.alloc(8);
  if (flags & FLAGS.headerCrc) {
    trailer.writeUInt16LE(crc32(Buffer.concat(parts)) & 0xffff);
    parts.push(Buffer.from(trailer.subarray(0, 2)));
  }
  trailer.writeUInt32LE(crc32(content), 0);
  trailer.writeUInt32LE(content.length, 4);
  return Buffer.concat([...parts, deflateRawSync(content, { level }), trailer]);
}

/** The payload in members of that many bytes. */
function membersOf(payload: Uint8Array, memberBytes: number, dressing?: Dressing): Buffer {
  const members: Buffer[] = [];
  for (let at = 0; at < payload.length; at += memberBytes)
    members.push(memberOf(payload.subarray(at, at + memberBytes), dressing));
  return Buffer.concat(members);
}

async function expectTiny(pack: Uint8Array): Promise<void> {
  expect(firstDifference((await unpackInMemory(pack)).content, tiny.content)).toBeUndefined();
}

async function expectDense(pack: Uint8Array): Promise<void> {
  expect(firstDifference((await unpackInMemory(pack)).content, dense.content)).toBeUndefined();
}

describe("a member's header", () => {
  const all = FLAGS.text | FLAGS.headerCrc | FLAGS.extra | FLAGS.name | FLAGS.comment;
  test("may hold whatever the flags announce", async () => {
    for (let flags = 0; flags <= all; flags++)
      await expectTiny(memberOf(payloadOf(tiny), { flags, extraBytes: 7, name: "vm.cow" }));
  });

  test("may be long", async () => {
    await expectTiny(memberOf(payloadOf(tiny), { flags: FLAGS.extra, extraBytes: 65535 }));
    await expectTiny(memberOf(payloadOf(tiny), { flags: FLAGS.name, name: "x".repeat(4000) }));
  });

  test.each([
    ["another method", 2, 7],
    ["reserved flags", 3, 0x20],
    ["reserved flags", 3, 0x80],
  ])("with %s is damage", async (_, at, value) => {
    const pack = memberOf(payloadOf(tiny));
    pack[at] = value;
    await expect(unpackInMemory(pack)).rejects.toMatchObject({ code: "damaged", file: "in" });
  });

  test("that does not end is a truncated file", async () => {
    const pack = memberOf(new Uint8Array(), { flags: FLAGS.name, name: "endless" }).subarray(0, 14);
    await expect(unpackInMemory(pack)).rejects.toMatchObject({ code: "truncated", file: "in" });
  });
});

describe("members", () => {
  test.each([5, 55, 56, 57, 1000])("of %i bytes each are one stream", async (bytes) => {
    await expectTiny(membersOf(payloadOf(tiny), bytes));
  });

  test("of which many are empty are one stream", async () => {
    const empty = memberOf(new Uint8Array());
    const half = payloadOf(tiny).subarray(0, 2000);
    const rest = payloadOf(tiny).subarray(2000);
    await expectTiny(Buffer.concat([empty, empty, memberOf(half), empty, memberOf(rest), empty, empty]));
  });

  test("may be followed by hundreds that are empty", async () => {
    const empty = memberOf(new Uint8Array());
    await expectTiny(Buffer.concat([memberOf(payloadOf(tiny)), Buffer.alloc(empty.length * 500, empty)]));
  });

  test("stored and compressed ones, short and long, with and without names, follow each other", async () => {
    const payload = payloadOf(dense);
    for (const size of [65_280, 300_000]) {
      await expectDense(membersOf(payload, size, { level: 0 }));
      await expectDense(membersOf(payload, size, { flags: FLAGS.name, name: "dense.cow", level: 1 }));
    }
  });

  test("may have their borders anywhere in what is read at once", async () => {
    const payload = payloadOf(dense);
    // Stored, a member is some bytes longer than its content: around these lengths its data, its checksum and the next
    // header come to lie across the border of two reads, and end right there.
    for (let away = -24; away <= 24; away++) {
      const first = READ_BYTES - 50 + away;
      await expectDense(
        Buffer.concat([
          memberOf(payload.subarray(0, first), { level: 0 }),
          memberOf(payload.subarray(first), { level: 0 }),
        ]),
      );
    }
  });

  test("behind the last one, garbage may begin right at the end of a read", async () => {
    const member = memberOf(payloadOf(tiny), { flags: FLAGS.extra, extraBytes: 0 });
    for (const away of [-1, 0, 1, 9, 10]) {
      const extraBytes = 60_000;
      const padded = Buffer.concat([
        memberOf(payloadOf(tiny), { flags: FLAGS.extra, extraBytes }),
        Buffer.alloc(READ_BYTES - extraBytes - member.length + away, 0x41),
      ]);
      await expectTiny(Buffer.concat([padded, Buffer.from("more")]));
    }
  });
});

describe("a member's checksum", () => {
  test.each([
    ["of the content", 8],
    ["of the length", 4],
  ])("%s is compared, in every member", async (_, fromEnd) => {
    const parts = [payloadOf(tiny).subarray(0, 2000), payloadOf(tiny).subarray(2000)];
    for (const damaged of [0, 1]) {
      const members = parts.map((part) => memberOf(part));
      const member = members[damaged] as Buffer;
      member[member.length - fromEnd] = (member[member.length - fromEnd] ?? 0) ^ 1;
      const failed = unpackInMemory(Buffer.concat(members));
      const message = expect.stringMatching(/byte \d+ \(0x[0-9a-f]+\)/);
      await expect(failed).rejects.toMatchObject({ code: "damaged", file: "in", message });
    }
  });

  test("is missing where a file was cut: truncated, at each of its bytes", async () => {
    const pack = gzipSync(payloadOf(tiny));
    for (let cut = 1; cut <= 8; cut++) {
      const failed = unpackInMemory(pack.subarray(0, -cut));
      await expect(failed).rejects.toMatchObject({ code: "truncated", file: "in" });
    }
  });

  test("counts the length of what is longer than a read", async () => {
    const pack = memberOf(payloadOf(dense), { level: 1 });
    await expectDense(pack);
    pack.writeUInt32LE(payloadOf(dense).length + 1, pack.length - 4);
    await expect(unpackInMemory(pack)).rejects.toMatchObject({ code: "damaged" });
  });
});
