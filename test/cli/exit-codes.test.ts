/** Proves that every error code has the exit status of the published table. */
import { describe, expect, test } from "vitest";
import { EXIT, exitOfCode } from "../../src/cli/exit-codes.ts";
import type { ErrorCode } from "../../src/lib/errors.ts";

const PUBLISHED: Readonly<Record<ErrorCode, number>> = {
  "bad-head": 4,
  unsupported: 4,
  dirty: 4,
  packed: 4,
  truncated: 4,
  damaged: 4,
  "wrong-base": 4,
  unsuitable: 4,
  "pending-merge": 4,
  io: 8,
  "not-found": 8,
  permission: 8,
  exists: 8,
  "no-space": 8,
  locked: 8,
  usage: 16,
  "needs-confirmation": 16,
  declined: 32,
  interrupted: 130,
};

describe("exit codes", () => {
  test.each(Object.entries(PUBLISHED))("%s is %d", (code, status) => {
    expect(exitOfCode(code as ErrorCode)).toBe(status);
  });

  test("a stop tells by which signal", () => {
    expect(exitOfCode("interrupted", "SIGINT")).toBe(130);
    expect(exitOfCode("interrupted", "SIGTERM")).toBe(143);
  });

  test("a bug is none of them", () => {
    expect(Object.values(PUBLISHED)).not.toContain(EXIT.internal);
  });
});
