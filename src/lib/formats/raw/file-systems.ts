/**
 * Owns recognising what a disk or a partition begins with, by its magic numbers: file systems, swap, volumes, encryption.
 * One bounded read a place; nothing is followed, and nothing here is trusted further than to be shown.
 */
import { type ByteSource, readZeroFilled } from "../../bytes/byte-source.ts";
import type { Fact } from "../format.ts";
import { hasLabel } from "../lvm/physical-volume.ts";

/** What is at a place. Sizes in bytes, as its own metadata says. */
export interface Content {
  readonly type: string;
  readonly label: string | null;
  readonly uuid: string | null;
  readonly size: number | null;
  readonly [fact: string]: Fact;
}

/** As far as the magic number that is farthest in: that of btrfs. */
const HEAD_BYTES = 68 << 10;

interface Found {
  readonly type: string;
  readonly label?: string | undefined;
  readonly uuid?: string | undefined;
  readonly size?: number | bigint | undefined;
}

class Head {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  has(at: number, text: string): boolean {
    return this.bytes.toString("latin1", at, at + text.length) === text;
  }

  /** A label: up to its first NUL, without blanks at its ends; bytes that are not UTF-8 become U+FFFD. */
  text(at: number, length: number): string | undefined {
    const [text = ""] = this.bytes.toString("utf8", at, at + length).split("\0");
    return text.trim() || undefined;
  }

  uuid(at: number): string | undefined {
    const hex = this.bytes.toString("hex", at, at + 16);
    if (/^0+$/.test(hex)) return undefined;
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }
}

const EXT_AT = 1024;
const BTRFS_AT = 64 << 10;
const ISO_AT = 32 << 10;
const PAGE_SIZES = [4 << 10, 8 << 10, 16 << 10, 64 << 10];

const EXT = { journal: 0x4, journalDevice: 0x8, wide: 0x80, ext4Incompat: 0x2c0, ext4ReadOnly: 0x478 };

function ext(head: Head): Found | undefined {
  const { bytes } = head;
  if (bytes.readUInt16LE(EXT_AT + 56) !== 0xef53) return undefined;
  const [compat, incompat, readOnly] = [92, 96, 100].map((at) => bytes.readUInt32LE(EXT_AT + at)) as [
    number,
    number,
    number,
  ];
  const blocks =
    BigInt(bytes.readUInt32LE(EXT_AT + 4)) +
    (incompat & EXT.wide ? BigInt(bytes.readUInt32LE(EXT_AT + 336)) << 32n : 0n);
  const type =
    incompat & EXT.journalDevice
      ? "ext-journal"
      : incompat & EXT.ext4Incompat || readOnly & EXT.ext4ReadOnly
        ? "ext4"
        : compat & EXT.journal
          ? "ext3"
          : "ext2";
  const size = blocks << BigInt(10 + (bytes.readUInt32LE(EXT_AT + 24) & 7));
  return { type, label: head.text(EXT_AT + 120, 16), uuid: head.uuid(EXT_AT + 104), size };
}

/** FAT, NTFS and exFAT: boot sectors, which a partition table could be taken for. */
function bootSector(head: Head): Found | undefined {
  const { bytes } = head;
  if (bytes.readUInt16LE(510) !== 0xaa55) return undefined;
  const sectorBytes = bytes.readUInt16LE(11);
  const serial = (at: number, length: number): string =>
    Buffer.from(bytes.subarray(at, at + length))
      .reverse()
      .toString("hex");
  if (head.has(3, "NTFS    "))
    return { type: "ntfs", uuid: serial(72, 8), size: bytes.readBigUInt64LE(40) * BigInt(sectorBytes) };
  if (head.has(3, "EXFAT   "))
    return { type: "exfat", uuid: serial(100, 4), size: bytes.readBigUInt64LE(72) << BigInt((bytes[108] ?? 0) & 15) };
  const isWide = head.has(82, "FAT32   ");
  if (!isWide && !head.has(54, "FAT12   ") && !head.has(54, "FAT16   ") && !head.has(54, "FAT     ")) return undefined;
  const sectors = bytes.readUInt16LE(19) || bytes.readUInt32LE(32);
  const label = head.text(isWide ? 71 : 43, 11);
  return {
    type: isWide ? "fat32" : head.has(54, "FAT12") ? "fat12" : "fat16",
    label: label === "NO NAME" ? undefined : label,
    uuid: serial(isWide ? 67 : 39, 4),
    size: sectors * sectorBytes,
  };
}

function swap(head: Head): Found | undefined {
  const pageBytes = PAGE_SIZES.find((size) => head.has(size - 10, "SWAPSPACE2") || head.has(size - 10, "SWAP-SPACE"));
  if (pageBytes === undefined) return undefined;
  const size = (head.bytes.readUInt32LE(1028) + 1) * pageBytes;
  return { type: "swap", label: head.text(1052, 16), uuid: head.uuid(1036), size };
}

const KINDS: readonly ((head: Head) => Found | undefined)[] = [
  (head) => (head.has(0, "LUKS\xba\xbe") ? { type: "luks", uuid: head.text(168, 40) } : undefined),
  ({ bytes }) => (hasLabel(bytes) ? { type: "lvm2-pv" } : undefined),
  (head) =>
    head.has(0, "XFSB")
      ? {
          type: "xfs",
          label: head.text(108, 12),
          uuid: head.uuid(32),
          size: head.bytes.readBigUInt64BE(8) * BigInt(head.bytes.readUInt32BE(4)),
        }
      : undefined,
  (head) => (head.has(0, "hsqs") ? { type: "squashfs", size: head.bytes.readBigUInt64LE(40) } : undefined),
  bootSector,
  ext,
  ({ bytes }) => (bytes.readUInt32LE(1024) === 0xf2f52010 ? { type: "f2fs" } : undefined),
  ({ bytes }) => (bytes.readUInt32LE(1024) === 0xe0f5e1e2 ? { type: "erofs" } : undefined),
  swap,
  (head) =>
    head.has(ISO_AT + 1, "CD001")
      ? {
          type: "iso9660",
          label: head.text(ISO_AT + 40, 32),
          size: head.bytes.readUInt32LE(ISO_AT + 80) * head.bytes.readUInt16LE(ISO_AT + 128),
        }
      : undefined,
  (head) =>
    head.has(BTRFS_AT + 64, "_BHRfS_M")
      ? {
          type: "btrfs",
          label: head.text(BTRFS_AT + 299, 256),
          uuid: head.uuid(BTRFS_AT + 32),
          size: head.bytes.readBigUInt64LE(BTRFS_AT + 112),
        }
      : undefined,
];

/** What is at `offset` of a disk, or null. @throws CowError `io` */
export function contentAt(source: ByteSource, offset: number): Content | null {
  const bytes = Buffer.alloc(HEAD_BYTES);
  readZeroFilled(source, bytes, offset);
  const head = new Head(bytes);
  for (const look of KINDS) {
    const found = look(head);
    if (!found) continue;
    const size = Number(found.size ?? 0);
    return {
      type: found.type,
      label: found.label ?? null,
      uuid: found.uuid ?? null,
      size: Number.isSafeInteger(size) && size > 0 ? size : null,
    };
  }
  return null;
}
