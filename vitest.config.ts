/**
 * Owns how the tests run: everything twice, with the system-call room of the library on (`ffi`) and off (`portable`),
 * because every system call has a portable fallback that must give the same results.
 */
import { defineConfig } from "vitest/config";

const files = ["test/**/*.test.ts"];

/** Tests that prove nothing new without system calls: of the source text, of the command line's own parts, slow ones. */
const runOnce = ["test/tidy.test.ts", "test/cli/**", "test/**/*.once.test.ts"];

export default defineConfig({
  test: {
    disableConsoleIntercept: true,
    globalSetup: ["test/support/fresh-build.ts"],
    reporters: process.env["CI"] ? ["default", "json"] : ["default"],
    outputFile: { json: process.env["COWTOOL_TEST_REPORT"] ?? "coverage/vitest.json" },
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 2,
    projects: [
      { extends: true, test: { name: "ffi", include: files, env: { NO_COLOR: "1" } } },
      {
        extends: true,
        test: { name: "portable", include: files, exclude: runOnce, env: { NO_COLOR: "1", COWTOOL_NO_FFI: "1" } },
      },
    ],
  },
});
