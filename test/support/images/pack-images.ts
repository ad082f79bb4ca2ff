/**
 * Owns small and sparse cowfiles for the tests of packing, what each of them is packed to by the book (a model of its own,
 * not the library's code), and packing in memory, where what is left behind shows. Must not know the command line.
 */
import {
  type CowAbi,
  dataOffsetFor,
  freshFileSize,
  headLayout,
  MemoryStorage,
  mapSizeFor,
  newHeadBlock,
  type PackRequest,
  type PackResult,
  pack,
  SparseBytes,
  unpack,
} from "../../../src/lib/index.ts";
import { noise } from "../random.ts";

export const BLOCK_BYTES = 1024;
const BITMAP_BYTE = 1024;
const FLAG_PACKED = 2;

export interface CowSpec {
  readonly abi?: CowAbi;
  readonly rdoBlocks: number;
  /** Where the driver puts it, unless given. */
  readonly dataOffset?: number;
  readonly flags?: number;
  /** Block numbers, ascending, with what they hold; a short one is filled up with zeros. */
  readonly blocks: readonly (readonly [block: number, content: Uint8Array])[];
}

/** A cowfile, with what is known of it. */
export interface Cow {
  readonly content: SparseBytes;
  /** The struct, with the packed flag. */
  readonly packedHead: Buffer;
  readonly bitmap: Buffer;
  readonly data: readonly Uint8Array[];
  readonly dataOffset: number;
}

/** Lays a cowfile out as the driver would. */
export function layOut({ abi = "le64", rdoBlocks, dataOffset, flags = 0, blocks }: CowSpec): Cow {
  const mapSize = mapSizeFor(rdoBlocks);
  const offset = dataOffset ?? dataOffsetFor(mapSize);
  const headOf = (flagWord: number): Uint8Array =>
    newHeadBlock({
      abi,
      version: 1,
      flags: flagWord,
      mapUnit: 1024n,
      mapSize: BigInt(mapSize),
      dataOffset: BigInt(offset),
      rdoBlocks: BigInt(rdoBlocks),
      fingerprint: 0x04030201n,
      used: BigInt(blocks.length),
    });
  const bitmap = Buffer.alloc(mapSize);
  for (const [block] of blocks) bitmap[block >> 3] = (bitmap[block >> 3] ?? 0) | (1 << (block & 7));
  const data = blocks.map(([, bytes]) => Buffer.concat([bytes, Buffer.alloc(BLOCK_BYTES - bytes.length)]));
  const content = new SparseBytes();
  content.write(headOf(flags), 0);
  writeNonZero(content, bitmap, BITMAP_BYTE);
  for (const [i, [block]] of blocks.entries()) content.write(data[i] ?? new Uint8Array(), offset + block * BLOCK_BYTES);
  content.resize(Math.max(content.sizeBytes, freshFileSize(rdoBlocks)));
  const packedHead = Buffer.from(headOf(flags | FLAG_PACKED)).subarray(0, headLayout(abi).sizeBytes);
  return { content, packedHead, bitmap, data, dataOffset: offset };
}

function writeNonZero(content: SparseBytes, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; done += 4096) {
    const page = bytes.subarray(done, done + 4096);
    if (page.some((byte) => byte !== 0)) content.write(page, at + done);
  }
}

/** What is in a gzip or zstd pack of it: head, bitmap, blocks, without gaps. */
export function payloadOf({ packedHead, bitmap, data }: Cow): Buffer {
  return Buffer.concat([packedHead, bitmap, ...data]);
}

/** The plain pack of it. */
export function plainOf({ packedHead, bitmap, data, dataOffset }: Cow): Buffer {
  const upToBitmap = Buffer.alloc(BITMAP_BYTE);
  packedHead.copy(upToBitmap);
  const gap = data.length === 0 ? 0 : dataOffset - BITMAP_BYTE - bitmap.length;
  return Buffer.concat([upToBitmap, bitmap, Buffer.alloc(gap), ...data]);
}

/** A cowfile of three blocks, and one of zeros, that is packed to some two kilobytes. */
export function tinyCow(abi: CowAbi = "le64"): Cow {
  const text = Buffer.from("moo ".repeat(256));
  return layOut({
    abi,
    rdoBlocks: 100,
    blocks: [
      [0, noise(BLOCK_BYTES, 1)],
      [7, text],
      [8, new Uint8Array()],
      [99, noise(300, 2)],
    ],
  });
}

/** A cowfile of two blocks, and one of zeros, that is packed to some hundred bytes. */
export function minuteCow(abi: CowAbi): Cow {
  const blocks = [
    [0, noise(200, 1)],
    [7, Buffer.from("moo ".repeat(256))],
    [8, new Uint8Array()],
  ] as const;
  return layOut({ abi, rdoBlocks: 100, blocks });
}

/** A cowfile of that many blocks from the first on, none of which compresses. */
export function denseCow(blocks: number, abi: CowAbi = "le64"): Cow {
  const content = noise(blocks * BLOCK_BYTES, 3);
  return layOut({
    abi,
    rdoBlocks: blocks + 1,
    blocks: Array.from({ length: blocks }, (_, i) => [i, content.subarray(i * BLOCK_BYTES, (i + 1) * BLOCK_BYTES)]),
  });
}

export interface Done {
  readonly content: SparseBytes;
  readonly result: PackResult;
  readonly notices: readonly string[];
}

/** Runs one of the two in memory, from `in` to `out`. If it fails, expects that there is no `out`, then throws on. */
async function inMemory(
  input: Uint8Array | SparseBytes,
  work: (context: Parameters<typeof pack>[3]) => Promise<PackResult>,
): Promise<Done> {
  const storage = new MemoryStorage();
  storage.put("in", input);
  const notices: string[] = [];
  try {
    const result = await work({ storage, onNotice: ({ file, message }) => void notices.push(`${file}: ${message}`) });
    return { content: storage.content("out") ?? new SparseBytes(), result, notices };
  } catch (error) {
    if (storage.paths().join() !== "in") throw new Error(`left behind: ${storage.paths()}`, { cause: error });
    throw error;
  }
}

export function packInMemory(input: Uint8Array | SparseBytes, request: PackRequest): Promise<Done> {
  return inMemory(input, (context) => pack("in", "out", request, context));
}

export function unpackInMemory(input: Uint8Array | SparseBytes, threads = 2): Promise<Done> {
  return inMemory(input, (context) => unpack("in", "out", { threads }, context));
}

/** The bytes of a pack of it. */
export async function packed(cow: Cow, format: NonNullable<PackRequest["format"]>): Promise<Buffer> {
  return Buffer.from((await packInMemory(cow.content, { format })).content.toBytes());
}

/** Where two contents differ first, by their pages, or undefined: holes are never read. */
export function firstDifference(a: SparseBytes, b: SparseBytes): string | undefined {
  if (a.sizeBytes !== b.sizeBytes) return `one has ${a.sizeBytes} bytes, the other ${b.sizeBytes}`;
  for (const index of new Set([...a.pages.keys(), ...b.pages.keys()])) {
    const [x, y] = [new Uint8Array(4096), new Uint8Array(4096)];
    a.read(x, index * 4096);
    b.read(y, index * 4096);
    if (Buffer.compare(x, y) !== 0) return `they differ in the page at byte ${index * 4096}`;
  }
  return undefined;
}
