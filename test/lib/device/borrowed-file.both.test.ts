/** Proves what the holders of a file believe of its length: what any of them writes all know, and a cut is found by all. */
import { closeSync, ftruncateSync, openSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { BorrowedFile } from "../../../src/lib/device/borrowed-file.ts";
import { Copier } from "../../../src/lib/device/copy.ts";
import { FileDevice } from "../../../src/lib/device/file-device.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const scratch = scratchDirectory();
const CUT =
  /was cut short by another program while it was open: it ended at byte 3000 \(0xbb8\), but must be 10000 bytes long/;

function makeFile(name: string): string {
  const path = scratch(name);
  writeFileSync(path, Buffer.alloc(10_000, 7));
  return path;
}

test("what one of them writes makes the file longer for all", () => {
  const path = makeFile("written");
  const lender = FileDevice.open(path, { writable: true });
  const length = lender.length.shared;
  const [one, other] = [1, 2].map(() => BorrowedFile.borrow(lender.fd, path, true, { length }));
  one?.write(Buffer.alloc(100, 1), 49_900);
  expect([lender.sizeBytes, other?.sizeBytes]).toEqual([50_000, 50_000]);
  expect(other?.read(Buffer.alloc(200), 49_900)).toBe(100);
  expect(other?.isWhole()).toBe(true);
  lender.close();
});

test("a file that another program cut is an error where it ended, and is not believed when it has grown back", () => {
  const path = makeFile("cut");
  const lender = FileDevice.open(path, { writable: true });
  const borrower = BorrowedFile.borrow(lender.fd, path, true, { length: lender.length.shared });
  truncateSync(path, 3000);
  expect(borrower.read(Buffer.alloc(3000), 0)).toBe(3000);
  expect(() => borrower.read(Buffer.alloc(5000), 0)).toThrow(CUT);
  expect(() => lender.read(Buffer.alloc(10), 0)).toThrow(CUT);
  truncateSync(path, 10_000);
  expect(() => borrower.read(Buffer.alloc(10), 5000)).toThrow(CUT);
  // A write would have made it longer, with zeros before it.
  expect(() => borrower.write(Buffer.alloc(10), 20_000)).toThrow(CUT);
  expect(() => lender.punchHole(0, 4096)).toThrow(CUT);
  expect(() => lender.resize(20_000)).toThrow(CUT);
  // What was written behind the cut is gone: a flush that is replied to would say that it is durable.
  expect(() => lender.flush()).toThrow(CUT);
  expect(statSync(path).size).toBe(10_000);
  lender.close();
});

test("the end of a file that was cut is no hole, and no copy has zeros for it", () => {
  const path = makeFile("hole");
  const [source, target] = [FileDevice.open(path), FileDevice.open(makeFile("copy"), { writable: true })];
  truncateSync(path, 3000);
  const copy = (): void =>
    new Copier().copy({ source, sourceOffset: 0, target, targetOffset: 0, length: source.sizeBytes });
  if (source.seesHoles) expect(() => [...source.dataExtents(4096, 10_000)]).toThrow(CUT);
  expect(copy).toThrow(CUT);
  for (const device of [source, target]) device.close();
});

test("a hole at the end of a file, and reading beyond it, are none of this", () => {
  const path = makeFile("sparse");
  truncateSync(path, 1 << 20);
  const device = FileDevice.open(path);
  const extents = [...device.dataExtents(0, 1 << 20)];
  expect(extents.length).toBe(1);
  expect(device.read(Buffer.alloc(100), (1 << 20) - 40)).toBe(40);
  expect(device.read(Buffer.alloc(100), 1 << 20)).toBe(0);
  const fd = openSync(path, "r+");
  ftruncateSync(fd, 2 << 20);
  closeSync(fd);
  // Made longer by another program: what was there when it was opened is still there.
  expect([device.isWhole(), device.sizeBytes]).toEqual([true, 1 << 20]);
  device.close();
});
