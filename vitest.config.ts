/**
 * Owns how the tests run: once with the system-call room of the library on (`ffi`), and the files named `*.both.test.ts`
 * again with it off (`portable`), because every system call has a portable fallback that must give the same results.
 * `test/tidy.test.ts` says which files those must be.
 */
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

// Threads and processes of the tests load src and dist anew each: compiled once, that takes a quarter of the time.
process.env["NODE_COMPILE_CACHE"] ??= fileURLToPath(new URL("node_modules/.cache/compile", import.meta.url));

// A server of a test has a control socket only where the test says so.
process.env["COWTOOL_RUNTIME_DIR"] = "";

/** What a change usually breaks, for `npm run test:quick`: house rules, codecs, formats, commands, a client's round trip. */
const quick = [
  "test/tidy.test.ts",
  "test/cli/**/*.test.ts",
  "test/lib/{bytes,merge,notes,operations,stack}/**/*.test.ts",
  "test/lib/{dm-cow,snap,qcow2}/{layer,snap,hostile}.test.ts",
  "test/lib/dm-snapshot/{docs,golden,live,merge}.test.ts",
  "test/lib/cowfile/{corpus,fingerprint,geometry,head,last-session,original-bugs}*.test.ts",
  "test/lib/formats/contract.test.ts",
  "test/lib/pack/{gzip,hostile,ordered}.test.ts",
  "test/lib/convert/properties.test.ts",
  "test/lib/nbd/serve-{framing,read,write,files}*.test.ts",
  "test/lib/nbd/handshake/{bytes,info}.test.ts",
  "test/commands/{base-changed,check,contract,create,info,merge,merge-pending,pack,repair}*.test.ts",
  "!test/commands/contract-{files,process}.test.ts",
  "!test/commands/pack-*.test.ts",
];

/** The longest, which begin first, so that both workers end at about the same time. */
const LONGEST = [
  "explore/mutations",
  "bench/bench",
  "golden/cowloop.both",
  "commands/kill",
  "docs/docs",
  "commands/signals",
  "faults/operations",
  "faults/live",
  "nbd/robust-many",
  "nbd/robust-kill",
  "commands/serve-stacks",
  "explore/explore",
];

class LongestFirst extends BaseSequencer {
  override async sort(specifications: TestSpecification[]): Promise<TestSpecification[]> {
    const placeOf = ({ moduleId }: TestSpecification): number => {
      const place = LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.test.ts`));
      return place === -1 ? LONGEST.length : place;
    };
    const sorted = await super.sort(specifications);
    return sorted.sort((a, b) => placeOf(a) - placeOf(b));
  }
}

const files = process.env["COWTOOL_QUICK"] ? quick : ["test/**/*.test.ts"];

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
    sequence: { sequencer: LongestFirst },
    projects: [
      { extends: true, test: { name: "ffi", include: files, env: { NO_COLOR: "1" } } },
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
