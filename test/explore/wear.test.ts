/**
 * Proves that a cowfile stands what happens to it again and again: however often the original cowrepair was run after a
 * crash, the next crash loses nothing either.
 */
import { expect, it } from "vitest";
import { ServedStack } from "../../src/lib/stack/live/served-stack.ts";
import { random } from "../support/random.ts";
import { Disk } from "./disk.ts";
import { RawCowfile } from "./foreign.ts";
import { COW, makeWorld, readWindows, reopen } from "./world.ts";

const ROUNDS = 20;

it("cowrepair after each of many kills leaves room for the notes of the next session", async () => {
  const world = await makeWorld(random(3));
  const boot = new Uint8Array(16).fill(1);
  let disk = Disk.of(world.files);
  for (let round = 0; round < ROUNDS; round++) {
    const stack = await ServedStack.open(
      disk.mount(() => undefined),
      world.parts.join(","),
      { access: "writable", boot },
    );
    const image = stack.image();
    // Zeros over what is not zero: no search would find them.
    image.write(new Uint8Array(1024), 1024 * (round % world.blockCount));
    image.commit();
    const killed = disk.killed();
    const { found, image: again } = reopen(killed, world, boot);
    expect(found, `round ${round}`).toBe("recovered");
    expect(readWindows(again, world.windows).equals(readWindows(image, world.windows)), `round ${round}`).toBe(true);
    const content = killed.get(COW);
    if (!content) throw new Error("the cowfile is gone");
    new RawCowfile(content).cowrepair();
    disk = Disk.of(killed);
  }
});
