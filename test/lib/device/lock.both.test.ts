/**
 * Proves the locks: one writer or many readers, within a process and across processes, with and without system calls on
 * either side; that the holder is named by pid and command; that a lock ends with its holder, however that ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { CowError, create, FileDevice, merge, repair } from "../../../src/lib/index.ts";
import { scratchDirectory } from "../../support/scratch.ts";

type Mode = "shared" | "exclusive";

const LIBRARY = fileURLToPath(new URL("../../../src/lib/index.ts", import.meta.url));
const scratch = scratchDirectory();
const file = scratch("image");
const open: { close(): void }[] = [];
const children: ChildProcess[] = [];

/** Takes a lock in this process; the test's end releases it. */
function take(mode: Mode, path = file): FileDevice {
  const device = FileDevice.open(path, { lock: mode, writable: mode === "exclusive" });
  open.push(device);
  return device;
}

/** Another process that holds a lock until it is killed, or told to end by the end of its input. */
async function holder(mode: Mode, portable: boolean): Promise<ChildProcess> {
  const program = `
    import { FileDevice } from ${JSON.stringify(LIBRARY)};
    const device = FileDevice.open(${JSON.stringify(file)}, { lock: "${mode}", writable: ${mode === "exclusive"} });
    console.log("locked");
    process.stdin.resume().on("end", () => device.close());`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    env: { ...process.env, COWTOOL_NO_FFI: portable ? "1" : "" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  children.push(child);
  const { value } = await createInterface({ input: child.stdout })[Symbol.asyncIterator]().next();
  expect(value).toBe("locked");
  return child;
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => child.once("close", () => resolve()));
}

function refusal(act: () => unknown): CowError {
  try {
    act();
  } catch (error) {
    if (error instanceof CowError) return error;
    throw error;
  }
  throw new Error("there was no refusal");
}

beforeEach(() => writeFileSync(file, "an image"));

afterEach(async () => {
  for (const device of open.splice(0)) device.close();
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill("SIGKILL");
    await ended(child);
  }
  // Nothing is left behind, whoever held what.
  for (const name of readdirSync(scratch("."))) rmSync(scratch(name));
});

describe("within a process", () => {
  test("many read, and a writer has it alone", () => {
    take("shared");
    const second = take("shared");
    expect(refusal(() => take("exclusive"))).toMatchObject({ code: "locked", file });
    second.close();
    expect(refusal(() => take("exclusive"))).toMatchObject({ code: "locked" });
    open[0]?.close();
    take("exclusive").close();
  });

  test("a writer keeps out readers and writers, and is named as this very process", () => {
    take("exclusive");
    for (const mode of ["shared", "exclusive"] as const) {
      const error = refusal(() => take(mode));
      expect(error).toMatchObject({ code: "locked", file });
      expect(error.message).toContain("this very process");
      expect(error.hints).toEqual(["the command names the same file twice, and one of the two is to be written"]);
    }
  });

  test("a refused lock leaves no trace: the holder may end, and the next one has it", () => {
    const first = take("exclusive");
    refusal(() => take("exclusive"));
    refusal(() => take("shared"));
    first.close();
    take("exclusive");
  });

  test("another name of the same file is the same lock", () => {
    symlinkSync(file, scratch("symlink"));
    take("exclusive");
    expect(refusal(() => take("shared", scratch("symlink")))).toMatchObject({
      code: "locked",
      file: scratch("symlink"),
    });
  });

  test.runIf(process.env["COWTOOL_NO_FFI"] === undefined)("so is a hard link", () => {
    linkSync(file, scratch("hardlink"));
    take("exclusive");
    expect(refusal(() => take("exclusive", scratch("hardlink")))).toMatchObject({ code: "locked" });
  });

  test("unlocked opens ask nobody", () => {
    take("exclusive");
    FileDevice.open(file, { lock: "none" }).close();
    FileDevice.open(file).close();
  });

  test("a reader of what it may only read gets its lock", () => {
    chmodSync(file, 0o400);
    take("shared");
  });

  test("the lock files of the portable way go with the last holder", () => {
    const devices = [take("shared"), take("shared")];
    for (const device of devices) device.close();
    take("exclusive").close();
    expect(readdirSync(scratch("."))).toEqual(["image"]);
  });
});

describe.each([
  ["with system calls", false],
  ["without system calls", true],
])("against another process %s", (_, portable) => {
  test("its exclusive lock keeps out readers and writers; pid and command are named", async () => {
    const child = await holder("exclusive", portable);
    for (const mode of ["shared", "exclusive"] as const) {
      const error = refusal(() => take(mode));
      expect(error).toMatchObject({ code: "locked", file, details: { file, holder_pid: child.pid } });
      expect(error.message).toContain(`pid ${child.pid} (`);
      expect(error.message).toContain("--input-type=module");
      // The program is text of several lines: none of its control characters gets through.
      expect(error.message).not.toMatch(/\p{Cc}/u);
    }
  });

  test("its shared lock lets readers in, and no writer", async () => {
    const child = await holder("shared", portable);
    take("shared").close();
    const error = refusal(() => take("exclusive"));
    expect(error).toMatchObject({ code: "locked", details: { holder_pid: child.pid } });
  });

  test("it may end as it likes: closed, the lock is free", async () => {
    const child = await holder("exclusive", portable);
    child.stdin?.end();
    await ended(child);
    take("exclusive");
    expect(readdirSync(scratch(".")).filter((name) => name.endsWith("lock"))).toHaveLength(
      process.env["COWTOOL_NO_FFI"] ? 1 : 0,
    );
  });

  test.each(["exclusive", "shared"] as const)("killed by SIGKILL, its %s lock is void", async (mode) => {
    const child = await holder(mode, portable);
    expect(refusal(() => take("exclusive"))).toMatchObject({ code: "locked" });
    child.kill("SIGKILL");
    await ended(child);
    take("exclusive");
  });

  test("operations refuse what it writes, name the right file, and change nothing", async () => {
    writeFileSync(scratch("base"), Buffer.alloc(4096, 1));
    rmSync(file);
    await create(scratch("base"), file, {}, {});
    await holder("exclusive", portable);
    await expect(repair(file, { force: true }, {})).rejects.toMatchObject({ code: "locked", file });
    await expect(merge(scratch("base"), file, {}, {})).rejects.toMatchObject({ code: "locked", file });
    await expect(create(file, scratch("new"), {}, {})).rejects.toMatchObject({ code: "locked", file });
    await expect(create(scratch("base"), file, { force: true }, {})).rejects.toMatchObject({ code: "locked", file });
  });
});

describe("a lock file that cannot be judged from here is not removed, and the image is refused", () => {
  const lock = `${file}.cowtool-lock`;
  const elsewhere = "0123456789ab";

  test.each<readonly [string, string, string]>([
    ["of another machine", lock, `1 1 ${elsewhere} far-away\n`],
    ["of another container on this one, with a living pid", lock, `${process.pid} 1 ${elsewhere} ${hostname()}\n`],
    ["of a process that has no origin", lock, "4194305 7 - far-away\n"],
    ["of an earlier version, whose process is not seen", lock, "4194305 7\n"],
    ["that is empty", lock, ""],
    ["that is none", lock, "a note\n"],
    ["of a reader on another machine", `${lock}.1-${elsewhere}`, `1 1 ${elsewhere} far-away\n`],
  ])("one %s", (_what, name, text) => {
    writeFileSync(name, text);
    const error = refusal(() => take("exclusive"));
    expect(error).toMatchObject({ code: "locked", file, details: { lock: name } });
    expect(error.hints.join()).toContain(`rm ${name}`);
    if (name === lock) expect(refusal(() => take("shared"))).toMatchObject({ code: "locked", details: { lock } });
    expect(readFileSync(name, "utf8")).toBe(text);
    rmSync(name);
    take("exclusive");
  });

  test("nor is a link of that name", () => {
    writeFileSync(scratch("other"), "1 1\n");
    symlinkSync(scratch("other"), lock);
    expect(refusal(() => take("exclusive"))).toMatchObject({ code: "locked", details: { lock } });
    expect(readFileSync(scratch("other"), "utf8")).toBe("1 1\n");
  });

  test("files that only begin like lock files are no locks, and stay", () => {
    const names = [`${lock}.notes`, `${lock}.7.bak`, `${lock}s`];
    for (const name of names) writeFileSync(name, "mine");
    take("exclusive").close();
    take("shared").close();
    for (const name of names) expect(readFileSync(name, "utf8")).toBe("mine");
  });

  test.runIf(process.env["COWTOOL_NO_FFI"])("a lock that was replaced meanwhile is not removed with the holder", () => {
    const device = take("exclusive");
    rmSync(lock);
    writeFileSync(lock, "mine");
    device.close();
    expect(existsSync(lock)).toBe(true);
  });
});
