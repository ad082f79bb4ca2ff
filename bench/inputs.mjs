/**
 * Owns the inputs of the benchmarks: made from fixed seeds, so that every run and every machine measures the same.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { random } from "../test/support/random.ts";

function fillRandom(bytes, next) {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  for (let i = 0; i < words.length; i++) words[i] = next() * 2 ** 32;
}

function fillText(bytes, next) {
  const words = `block ${Math.floor(next() * 1e9)} of a text that compresses well; `;
  bytes.fill(words);
}

/**
 * Writes a sparse image: `runs` runs of `runBytes` at random places, every other one incompressible, and a first run
 * that gives it a fingerprint. The same `seed` gives the same image; `head` alone makes the base that the image differs
 * from by its runs.
 */
export function makeImage(path, { sizeBytes, runs, runBytes, seed }) {
  const next = random(seed);
  const fd = openSync(path, "w");
  ftruncateSync(fd, sizeBytes);
  const bytes = Buffer.alloc(runBytes);
  fillRandom(bytes, random(1));
  writeSync(fd, bytes, 0, runBytes, 0);
  const places = new Set();
  while (places.size < runs) places.add(1 + Math.floor(next() * (sizeBytes / runBytes - 1)));
  [...places]
    .sort((a, b) => a - b)
    .forEach((place, i) => {
      if (i % 2 === 0) fillRandom(bytes, next);
      else fillText(bytes, next);
      writeSync(fd, bytes, 0, runBytes, place * runBytes);
    });
  closeSync(fd);
}

const STRIPE_BYTES = 4 << 20;

/** The base of all serving: stripes of random bytes and holes by turns. */
export function makeBase(path, sizeBytes) {
  const next = random(1);
  const fd = openSync(path, "w");
  ftruncateSync(fd, sizeBytes);
  const stripeBytes = Math.min(STRIPE_BYTES, sizeBytes / 4);
  const bytes = Buffer.alloc(stripeBytes);
  for (let at = 0; at < sizeBytes; at += 2 * stripeBytes) {
    fillRandom(bytes, next);
    writeSync(fd, bytes, 0, stripeBytes, at);
  }
  fsyncSync(fd);
  closeSync(fd);
}

/** An image that is all hole behind its first MiB, of any size. */
export function makeSparse(path, sizeBytes) {
  makeImage(path, { sizeBytes, runs: 0, runBytes: 1 << 20, seed: 1 });
}

/**
 * Marks `count` blocks of an empty cowfile (le64), as evenly spread as can be, so that each is an extent of its own as
 * long as less than half of them are marked. Their data is holes: an index does not know the difference.
 */
export function markBlocks(path, count) {
  const fd = openSync(path, "r+");
  const head = Buffer.alloc(56);
  readSync(fd, head, 0, 56, 0);
  const bitmap = Buffer.alloc(Number(head.readBigUInt64LE(16)));
  const [dataBytes, blocks] = [Number(head.readBigUInt64LE(24)), Number(head.readBigUInt64LE(32))];
  for (let i = 0; i < count; i++) {
    const block = Math.floor((i * blocks) / count);
    bitmap[block >> 3] |= 1 << (block & 7);
  }
  writeSync(fd, bitmap, 0, bitmap.length, 1024);
  ftruncateSync(fd, dataBytes + blocks * 1024);
  head.writeBigUInt64LE(BigInt(count), 48);
  writeSync(fd, head, 0, 56, 0);
  fsyncSync(fd);
  closeSync(fd);
}

/**
 * Fills an empty cowfile (le64) with `bytes`, 4 KiB or a multiple of 8 KiB, at these places of the image, as a server that ended in order would leave it.
 * Its base's fingerprint stays the layers' above as long as the first MiB of makeSparse() is left alone.
 */
export function fillCowfile(path, bytes, places) {
  const fd = openSync(path, "r+");
  const head = Buffer.alloc(56);
  readSync(fd, head, 0, 56, 0);
  const bitmap = Buffer.alloc(Number(head.readBigUInt64LE(16)));
  const dataBytes = Number(head.readBigUInt64LE(24));
  for (const place of places) {
    if (bytes.length === 4096) bitmap[Math.floor(place / 8192)] |= 0x0f << ((place / 1024) & 4);
    else bitmap.fill(0xff, place / 8192, (place + bytes.length) / 8192);
    writeSync(fd, bytes, 0, bytes.length, dataBytes + place);
  }
  writeSync(fd, bitmap, 0, bitmap.length, 1024);
  head.writeBigUInt64LE(BigInt((places.length * bytes.length) / 1024), 48);
  writeSync(fd, head, 0, 56, 0);
  closeSync(fd);
}

/** Leaves a cowfile (le64) as a driver that died does: dirty, the count of the last sync, no bit of what came since. */
export function crash(path) {
  const fd = openSync(path, "r+");
  const head = Buffer.alloc(64);
  readSync(fd, head, 0, 64, 0);
  head.writeInt16LE(1, 6);
  head.writeBigUInt64LE(0n, 48);
  writeSync(fd, head, 0, 56, 0);
  let left = Number(head.readBigUInt64LE(16));
  const zeros = Buffer.alloc(1 << 20);
  for (let at = 1024; left > 0; at += zeros.length, left -= zeros.length)
    writeSync(fd, zeros, 0, Math.min(left, zeros.length), at);
  closeSync(fd);
}
