/** Proves what a thread believes of the size of a file that it borrows: what is written is asked for, a base is not. */
import { closeSync, openSync, truncateSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { BorrowedFile } from "../../src/lib/device/borrowed-file.ts";
import { scratchDirectory } from "../support/scratch.ts";

const scratch = scratchDirectory();

test("a file that others write is as long as it is; one that is settled as it was when it was borrowed", () => {
  const path = scratch("file");
  writeFileSync(path, Buffer.alloc(10_000, 7));
  const fd = openSync(path, "r");
  const [written, settled] = [BorrowedFile.borrow(fd, path, true), BorrowedFile.borrowSettled(fd, path)];
  expect([written.sizeBytes, settled.sizeBytes]).toEqual([10_000, 10_000]);
  truncateSync(path, 50_000);
  expect([written.sizeBytes, settled.sizeBytes]).toEqual([50_000, 10_000]);
  // A settled file that shrank nevertheless: the read says how much there was.
  truncateSync(path, 3000);
  expect([written.sizeBytes, settled.read(Buffer.alloc(5000), 0)]).toEqual([3000, 3000]);
  closeSync(fd);
});
