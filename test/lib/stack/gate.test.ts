/**
 * Proves the gate: a connection that has begun a batch is waited for, one that has not begun waits, one that sends holds up
 * nobody; all go on with the parts of the epoch that is told; and parts are in use until the last connection has left them.
 */
import { expect, test } from "vitest";
import { type Current, Gate, Passage } from "../../../src/lib/stack/live/gate.ts";

class Parts implements Current {
  epoch = 0;

  reach(epoch: number): void {
    this.epoch = epoch;
  }
}

test("the gate is empty once every batch has ended or sends, and what comes later takes the next parts", async () => {
  const gate = new Gate();
  const parts = [new Parts(), new Parts(), new Parts()];
  const [working, sending, late] = parts.map((each) => new Passage(gate.connect().passed, each));
  working?.enter();
  sending?.enter();
  sending?.hold();
  gate.close();
  expect(await gate.emptied(performance.now() + 5)).toBe(false);
  expect(late?.tryEnter()).toBe(false);
  const emptied = gate.emptied(performance.now() + 10_000);
  working?.leave();
  expect([await emptied, gate.isActive]).toEqual([true, false]);
  const opened = late?.opened();
  gate.advance();
  gate.open();
  await opened;
  expect(late?.tryEnter()).toBe(true);
  sending?.goOn();
  expect(parts.map(({ epoch }) => epoch)).toEqual([0, 1, 1]);
});

test("parts of an epoch are in use until no batch refers to them, also where it went on with others in between", async () => {
  const gate = new Gate();
  const passage = new Passage(gate.connect().passed, new Parts());
  const gone = gate.connect();
  new Passage(gone.passed, new Parts()).enter();
  passage.enter();
  gate.advance();
  passage.hold();
  passage.goOn();
  let isPast = false;
  const past = gate.past(1).then(() => {
    isPast = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isPast).toBe(false);
  passage.enter();
  gone.close();
  await past;
});

test("a flush holds up nobody, and the top that it flushes is not given up before it is done", async () => {
  const gate = new Gate();
  const parts = new Parts();
  const passage = new Passage(gate.connect().passed, parts);
  passage.enter();
  let isFlushed = false;
  let flushed = Promise.resolve();
  passage.flush(() => {
    gate.close();
    expect(gate.isActive).toBe(false);
    gate.advance();
    gate.open();
    flushed = gate.flushed(1).then(() => {
      isFlushed = true;
    });
  });
  expect([parts.epoch, isFlushed]).toEqual([1, false]);
  passage.leave();
  await flushed;
});
