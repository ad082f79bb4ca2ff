/**
 * Owns the ways in which valid bytes are spoiled: bits, words at the edges, pieces cut out, doubled, or exchanged.
 */

export type Random = () => number;

const EDGES = [
  0,
  1,
  2,
  7,
  8,
  255,
  256,
  511,
  512,
  1023,
  1024,
  4095,
  4096,
  65_535,
  65_536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
];

export function pick<Item>(next: Random, items: readonly Item[]): Item {
  return items[Math.floor(next() * items.length)] as Item;
}

function at(next: Random, bytes: Uint8Array): number {
  // The beginning of a structure says what the rest means.
  const reach = next() < 0.5 ? Math.min(bytes.length, 128) : bytes.length;
  return Math.floor(next() * reach);
}

const WAYS: readonly ((bytes: Buffer, next: Random) => Buffer)[] = [
  (bytes, next) => {
    const place = at(next, bytes);
    bytes[place] = (bytes[place] ?? 0) ^ (1 << Math.floor(next() * 8));
    return bytes;
  },
  (bytes, next) => {
    const place = at(next, bytes);
    if (place + 4 <= bytes.length) {
      if (next() < 0.5) bytes.writeUInt32LE(pick(next, EDGES), place);
      else bytes.writeUInt32BE(pick(next, EDGES), place);
    }
    return bytes;
  },
  (bytes, next) => bytes.subarray(0, at(next, bytes)),
  (bytes, next) => {
    const [from, length] = [at(next, bytes), Math.floor(next() * 64)];
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + length)]);
  },
  (bytes, next) => {
    const [from, length] = [at(next, bytes), Math.floor(next() * 64)];
    return Buffer.concat([bytes.subarray(0, from + length), bytes.subarray(from)]);
  },
  (bytes, next) => {
    const [from, to, length] = [at(next, bytes), at(next, bytes), Math.floor(next() * 32)];
    bytes.copyWithin(to, from, from + length);
    return bytes;
  },
  (bytes, next) => {
    const place = at(next, bytes);
    for (let i = place; i < Math.min(bytes.length, place + 16); i++) bytes[i] = next() * 256;
    return bytes;
  },
];

/** One to a few spoilings of a copy. */
export function mutate(bytes: Uint8Array, next: Random): Buffer {
  let result: Buffer = Buffer.from(bytes);
  for (let count = 1 + Math.floor(next() * 4); count > 0; count--) result = Buffer.from(pick(next, WAYS)(result, next));
  return result;
}
