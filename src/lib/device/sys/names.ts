/**
 * Owns finding the names in a directory that begin in some way: by the kernel's own list, since making a string of each of
 * a few thousand other names costs more than the kernel's part.
 */
import * as fs from "node:fs";
import { type Libc, libc } from "./libc.ts";

/** In a struct linux_dirent64: the length of the whole, and where the name begins, which ends with a zero. */
const LENGTH_AT = 16;
const NAME_AT = 19;
const LIST_BYTES = 128 << 10;

/** The machine's order of bytes. */
const isLittle = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

let list: Buffer | undefined;

/** @throws a system error if the directory cannot be read */
export function namesBeginning(directory: string, prefix: string): string[] {
  const c = libc();
  const names = c && listed(c, directory, prefix);
  return names ?? fs.readdirSync(directory).filter((name) => name.startsWith(prefix));
}

/** @returns undefined where the C library cannot list directories in this way */
function listed(c: Libc, directory: string, prefix: string): string[] | undefined {
  list ??= Buffer.alloc(LIST_BYTES);
  const names: string[] = [];
  const fd = fs.openSync(directory, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    for (;;) {
      const got = c.getdents(fd, list);
      if (got < 0) return undefined;
      if (got === 0) return names;
      const part = list.subarray(0, got);
      if (part.includes(prefix)) names.push(...namesIn(part, prefix));
    }
  } finally {
    fs.closeSync(fd);
  }
}

function* namesIn(part: Buffer, prefix: string): Generator<string> {
  const view = new DataView(part.buffer, part.byteOffset, part.length);
  for (let at = 0; at < part.length; at += view.getUint16(at + LENGTH_AT, isLittle)) {
    const end = part.indexOf(0, at + NAME_AT);
    const name = part.toString("utf8", at + NAME_AT, end);
    if (name.startsWith(prefix)) yield name;
  }
}
