/**
 * Proves that clients whom different parts of `cowtool serve` serve see the same disk: those with TLS are served by its
 * main thread, the others by threads of their own.
 */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { nodeStorage, openStack } from "../../src/lib/index.ts";
import { serveProgram } from "../support/nbd/program.ts";
import { RawSession } from "../support/nbd/raw-session.ts";
import { makeCowfile, makeImage } from "../support/nbd/test-server.ts";
import { noise } from "../support/random.ts";
import { scratchDirectory } from "../support/scratch.ts";

const KIB = 1024;
const MIB = 1 << 20;
const at = scratchDirectory();

test("a client with TLS is told of what one without has written, beyond what the cowfile was long at first", async () => {
  writeFileSync(at("keys.psk"), `alice:${"0123456789abcdef".repeat(4)}\n`, { mode: 0o600 });
  makeImage(at("base.img"), noise(MIB, 1), 4 * MIB);
  const cowfile = await makeCowfile(at("base.img"), at("vm.cow"));
  const tls = ["--tls-psk", at("keys.psk"), "--tls", "allow"];
  const server = await serveProgram([at("base.img"), cowfile, "--socket", at("s"), ...tls]);
  const session = await RawSession.open(at("s"), "structured");
  await session.write(3 * MIB, noise(64 * KIB, 6));
  await session.goodbye();
  const stack = await openStack(nodeStorage, `nbds+unix://alice@/?socket=${at("s")}&tls-psk-file=${at("keys.psk")}`);
  const extents = [...stack.device.dataExtents(2 * MIB, 4 * MIB)];
  const got = new Uint8Array(64 * KIB);
  stack.device.read(got, 3 * MIB);
  stack.close();
  expect(Buffer.compare(got, noise(64 * KIB, 6))).toBe(0);
  expect(extents).toEqual([{ offset: 3 * MIB, length: 64 * KIB }]);
  expect((await server.stop()).status).toBe(0);
});
