/**
 * Owns the inputs of the benchmarks: made from fixed seeds, so that every run and every machine measures the same.
 */
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
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
