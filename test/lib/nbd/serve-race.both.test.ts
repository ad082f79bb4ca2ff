/**
 * Proves that what one connection asks is not answered wrongly because another one is writing: who reads or asks for the
 * status of a long stretch while its first block is being written sees the rest of it as it is. Where threads serve the
 * connections, these meet in the middle of a search through the bitmap, some of many times.
 */
import { expect, test } from "vitest";
import { CMD, RawSession, succeed } from "../../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const GIB = 2 ** 30;
const BLOCK = 1024;
const ROUNDS = 250;
const DIRTY = "qemu:dirty-bitmap:cowtool";

const at = scratchDirectory();

test("a long stretch is not taken for written because its first block just was", async () => {
  makeImage(at("base.img"), noise(MIB, 1), 16 * GIB);
  await makeCowfile(at("base.img"), at("vm.cow"));
  const server = await startServing(at, [at("base.img"), at("vm.cow")]);
  const asker = await RawSession.open(server.socket, "extended", { contexts: [DIRTY] });
  const writer = await RawSession.open(server.socket, "simple");
  const tooMuch: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const offset = round * 2 * MIB;
    const [status] = await Promise.all([
      asker.ask({ type: CMD.BLOCK_STATUS, offset, length: 8 * GIB }),
      writer.write(offset, noise(BLOCK, round)),
    ]);
    let marked = 0;
    for (const [length, flags] of succeed(status).extents.get(DIRTY) ?? []) marked += flags * length;
    if (marked > BLOCK) tooMuch.push(round);
  }
  expect(tooMuch).toEqual([]);
  await Promise.all([asker.goodbye(), writer.goodbye()]);
});
