/** Proves that nothing dangerous happens without a yes. */
import { describe, expect, test } from "vitest";
import { confirm } from "../../src/cli/prompt.ts";
import { fakeTerminal } from "../support/command/fake-terminal.ts";

const asked = { file: "base.img", question: "write 3 blocks into base.img?", yes: false, json: false };
const never = new AbortController().signal;

describe("confirm", () => {
  test.each(["y", "Y", "yes", " YES "])("takes %j as a yes", async (answer) => {
    const terminal = fakeTerminal({ isTerminal: true, answers: [answer] });
    await confirm(terminal, never, asked);
    expect(terminal.questions).toEqual(["cowtool: write 3 blocks into base.img? [y/N] "]);
    expect(terminal.out()).toBe("");
  });

  test.each([["", "n", "no", "yess", "j"], []].flat())("takes %j as a no", async (answer) => {
    const terminal = fakeTerminal({ isTerminal: true, answers: [answer] });
    await expect(confirm(terminal, never, asked)).rejects.toMatchObject({ code: "declined", file: "base.img" });
  });

  test("takes the end of input as a no", async () => {
    await expect(confirm(fakeTerminal({ isTerminal: true }), never, asked)).rejects.toMatchObject({ code: "declined" });
  });

  test("asks nobody where nobody is", async () => {
    const nobody = fakeTerminal({ answers: ["y"] });
    await expect(confirm(nobody, never, asked)).rejects.toMatchObject({ code: "needs-confirmation" });
    const program = fakeTerminal({ isTerminal: true, answers: ["y"] });
    await expect(confirm(program, never, { ...asked, json: true })).rejects.toMatchObject({
      code: "needs-confirmation",
    });
    expect([...nobody.questions, ...program.questions]).toEqual([]);
  });

  test("needs no answer with --yes", async () => {
    await confirm(fakeTerminal(), never, { ...asked, yes: true, json: true });
  });

  test("is ended by a signal", async () => {
    const terminal = fakeTerminal({ isTerminal: true, answers: ["y"] });
    await expect(confirm(terminal, AbortSignal.abort(), asked)).rejects.toMatchObject({ code: "interrupted" });
  });
});
