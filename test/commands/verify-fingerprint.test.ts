/** Proves the answers of `verify-fingerprint`: yes is 0, no is 1, and both sides are named. */
import { truncateSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { useImages } from "../support/command/files.ts";
import { expectErrorJson, expectJson, run } from "../support/command/harness.ts";

const at = useImages();

async function answerOf(rdofile: string, cowfile: string, status: number): Promise<Record<string, unknown>> {
  const ran = await run("verify-fingerprint", [rdofile, cowfile, "--json"]);
  expect(ran.status, ran.stdout).toBe(status);
  return expectJson(ran.stdout, "verify-fingerprint");
}

describe("verify-fingerprint", () => {
  test.each(["vm.cow", "be32.cow", "dirty.cow", "lost.cow", "plain.pack", "gzip.pack"])(
    "yes: %s was made for this base",
    async (name) => {
      const answer = await answerOf(at("base.img"), at(name), 0);
      expect(answer).toMatchObject({ match: true, rdo_blocks_expected: 300, rdo_blocks_actual: 300 });
      expect(answer["fingerprint_actual"]).toBe(answer["fingerprint_expected"]);
    },
  );

  test("no: another image of that size", async () => {
    const answer = await answerOf(at("random.img"), at("vm.cow"), 1);
    expect(answer["match"]).toBe(false);
    expect(answer["fingerprint_actual"]).not.toBe(answer["fingerprint_expected"]);
    const { stdout } = await run("verify-fingerprint", [at("random.img"), at("vm.cow")]);
    expect(stdout).toContain(`${at("vm.cow")}: does not belong to ${at("random.img")}\n`);
    expect(stdout).toContain(String(answer["fingerprint_expected"]));
    expect(stdout).toContain(String(answer["fingerprint_actual"]));
  });

  test("no: the same beginning, but another size", async () => {
    truncateSync(at("base.img"), 200 * 1024);
    const answer = await answerOf(at("base.img"), at("vm.cow"), 1);
    expect(answer).toMatchObject({ match: false, rdo_blocks_expected: 300, rdo_blocks_actual: 200 });
    expect(answer["fingerprint_actual"]).toBe(answer["fingerprint_expected"]);
  });

  test("a base of zeros has a fingerprint, too", async () => {
    const answer = await answerOf(at("zero.img"), at("vm.cow"), 1);
    expect(answer["fingerprint_actual"]).toBe("0x00000000");
  });

  test("a layer of a stack has to belong itself", async () => {
    await answerOf(`${at("base.img")},${at("vm.cow")}`, at("top.cow"), 0);
    const wrong = [`${at("random.img")},${at("vm.cow")}`, at("top.cow"), "--json"];
    expect(expectErrorJson(await run("verify-fingerprint", wrong), 4).code).toBe("wrong-base");
  });

  test("a head with impossible values still says what it was made for", async () => {
    const answer = await answerOf(at("base.img"), at("hostile.cow"), 1);
    expect(answer["rdo_blocks_expected"]).toBe("9223372036854775808");
  });
});
