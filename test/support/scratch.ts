/**
 * Owns what tests do with files: scratch directories that go with the test file, copies that stay sparse, digests.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, copyFileSync, mkdtempSync, openSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** Below this many bytes a copy may lose its holes. */
const SMALL_BYTES = 4 << 20;
const PIECE_BYTES = 1 << 20;

/** Is the library's room of system calls open in this run? Without it no hole is seen. */
export const seesHoles = process.env["COWTOOL_NO_FFI"] === undefined;

/** A directory for this test file, removed after its last test. Returns a function from names to paths in it. */
export function scratchDirectory(parent = tmpdir()): (name: string) => string {
  const directory = mkdtempSync(join(parent, "cowtool-test-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  return (name) => join(directory, name);
}

/** Copies a file; a large one with its holes. */
export function copyImage(from: string, to: string): string {
  rmSync(to, { force: true });
  if (statSync(from).size < SMALL_BYTES) copyFileSync(from, to);
  else execFileSync("cp", ["--sparse=always", from, to]);
  return to;
}

/** SHA-256 in hex of a file, or of its first `length` bytes. */
export function sha256(path: string, length = Number.POSITIVE_INFINITY): string {
  const hash = createHash("sha256");
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  const fd = openSync(path, "r");
  try {
    for (let at = 0; at < length; ) {
      const got = readSync(fd, buffer, 0, Math.min(buffer.length, length - at), at);
      if (got === 0) break;
      hash.update(buffer.subarray(0, got));
      at += got;
    }
  } finally {
    closeSync(fd);
  }
  return hash.digest("hex");
}

/** The bytes at an offset, fewer where the file ends. */
export function readAt(path: string, offset: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  const fd = openSync(path, "r");
  try {
    return buffer.subarray(0, readSync(fd, buffer, 0, length, offset));
  } finally {
    closeSync(fd);
  }
}
