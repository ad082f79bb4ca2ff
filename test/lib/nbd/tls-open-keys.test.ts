/**
 * Proves that a key which other users can read is warned of when a server takes it.
 */
import { chmodSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { TlsConfig } from "../../../src/lib/nbd/server/tls-config.ts";
import { scratchDirectory } from "../../support/scratch.ts";

test("a file of pre-shared keys that others can read is warned of, and a private one is not", () => {
  const psk = scratchDirectory()("keys.psk");
  writeFileSync(psk, "alice:00112233445566778899aabbccddeeff\n");
  for (const [mode, count] of [
    [0o600, 0],
    [0o640, 1],
    [0o604, 1],
  ] as const) {
    chmodSync(psk, mode);
    const notices: unknown[] = [];
    new TlsConfig({ psk }, (notice) => void notices.push(notice));
    expect(notices).toHaveLength(count);
    if (count > 0)
      expect(notices[0]).toMatchObject({
        severity: "warning",
        file: psk,
        message: expect.stringContaining("chmod 600"),
      });
  }
});
