/**
 * Owns how the tests run: once with the system-call room of the library on (`ffi`), and the files named `*.both.test.ts`
 * again with it off (`portable`), because every system call has a portable fallback that must give the same results.
 * `test/tidy.test.ts` says which files those must be.
 */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// Threads and processes of the tests load src and dist anew each: compiled once, that takes a quarter of the time.
process.env["NODE_COMPILE_CACHE"] ??= fileURLToPath(new URL("node_modules/.cache/compile", import.meta.url));

export default defineConfig({
  test: {
    disableConsoleIntercept: true,
    globalSetup: ["test/support/fresh-build.ts"],
    setupFiles: ["test/support/property-seed.ts"],
    reporters: process.env["CI"] ? ["default", "json"] : ["default"],
    outputFile: { json: process.env["COWTOOL_TEST_REPORT"] ?? "coverage/vitest.json" },
    testTimeout: 60_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 2,
    projects: [
      { extends: true, test: { name: "ffi", include: ["test/**/*.test.ts"], env: { NO_COLOR: "1" } } },
      {
        extends: true,
        test: {
          name: "portable",
          include: ["test/**/*.both.test.ts"],
          env: { NO_COLOR: "1", COWTOOL_NO_FFI: "1" },
        },
      },
    ],
  },
});
