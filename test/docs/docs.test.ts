/**
 * Proves that docs/ tells the truth: every example runs and prints what is shown, what the pages tell of the format is
 * what the tables in the source say, and their links lead somewhere.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { QCOW2_PROBLEMS } from "../../src/lib/formats/qcow2/problems.ts";
import { ABI_NAMES, COW_PROBLEMS, type CowAbi, headLayout, LOSSES } from "../../src/lib/index.ts";
import {
  type Block,
  blocksOf,
  fileNameOf,
  isInstalled,
  patternOf,
  prepareWorkplace,
  printedBy,
  readDocument,
  runLine,
  stable,
  stepsOf,
} from "../support/command/documents.ts";
import { skipsLoudly } from "../support/command/real-process.ts";
import { ROOT } from "../support/command/run-command.ts";
import { scratchDirectory } from "../support/scratch.ts";

const PAGES = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
/** Blocks that show shapes, not examples. */
const NOT_RUN = ["", "text"];

/** Programs of others that a page's examples use. */
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  "convert.md": ["qemu-img"],
  "jobs.md": ["qemu-io"],
  "live-journal.md": ["qemu-io"],
  "qcow2.md": ["qemu-img", "qemu-io"],
  "serve.md": ["nbdinfo", "nbdcopy", "qemu-io", "certtool", "psktool"],
};

/** Ends servers that an example which failed has left running. Each of them said who it is, and works in that folder. */
function endServers(cwd: string): void {
  for (const name of readdirSync(cwd).filter((file) => file.endsWith(".pid"))) {
    const pid = Number(readFileSync(join(cwd, name), "utf8"));
    try {
      if (readlinkSync(`/proc/${pid}/cwd`) === realpathSync(cwd)) process.kill(pid, "SIGTERM");
    } catch {
      // It has ended.
    }
  }
}

async function runConsole(block: Block, cwd: string): Promise<void> {
  for (const { command, status, output } of stepsOf(block.text)) {
    const ran = await runLine(command, cwd);
    expect(ran, `$ ${command}\n${ran.errors}`).toMatchObject({ status });
    // Where the reader is, the documents can't know.
    const shown = ran.output.replaceAll(realpathSync(cwd), "/home/you");
    expect(stable(shown), `$ ${command}`).toMatch(patternOf(output));
  }
}

async function runModule(block: Block, cwd: string): Promise<void> {
  const name = `example-${block.line}.mjs`;
  writeFileSync(join(cwd, name), block.text);
  const ran = await runLine(`node ${name}`, cwd);
  expect(ran, `the example at line ${block.line}\n${ran.errors}`).toMatchObject({ status: 0 });
  expect(ran.output.split("\n").slice(0, -1), `the example at line ${block.line}`).toEqual(printedBy(block));
}

describe.each(PAGES)("docs/%s", (page) => {
  const path = scratchDirectory();
  const text = readDocument(`docs/${page}`);
  const blocks = blocksOf(text);

  afterAll(() => endServers(path(".")));

  const missing = (NEEDS[page] ?? []).filter((program) => !isInstalled(program));
  const cannotRun = skipsLoudly(
    missing.length > 0,
    `no ${missing.join(", ")}: the examples of docs/${page} are not run`,
  );

  test.skipIf(cannotRun)("its examples run and print what is shown", async () => {
    prepareWorkplace(path("."));
    let count = 0;
    for (const block of blocks) {
      const name = fileNameOf(block);
      if (name !== undefined) writeFileSync(path(name), block.text);
      else if (block.language === "console") await runConsole(block, path("."));
      else if (block.language === "js") await runModule(block, path("."));
      else expect(NOT_RUN, `the language of the block at line ${block.line}`).toContain(block.language);
      count += NOT_RUN.includes(block.language) ? 0 : 1;
    }
    expect(count).toBeGreaterThan(0);
  });

  test("it links to what is there", () => {
    const targets = [...text.matchAll(/\]\(([^)#]+)\)/g)].map(([, target = ""]) => target);
    const local = targets.filter((target) => !target.includes("://"));
    expect(local.filter((target) => !existsSync(join(ROOT, "docs", target)))).toEqual([]);
  });
});

/** Cells of the table whose head begins with that cell, without backquotes. */
function tableOf(text: string, firstCell: string): string[][] {
  const lines = text.split("\n");
  const start = lines.findIndex((line) => line.startsWith(`| ${firstCell} |`));
  expect(start, `a table that begins with ${firstCell}`).toBeGreaterThan(-1);
  const end = lines.findIndex((line, index) => index > start && !line.startsWith("|"));
  const cells = (line: string): string[] => line.split("|").slice(1, -1);
  return lines.slice(start + 2, end).map((line) => cells(line).map((cell) => cell.trim().replaceAll("`", "")));
}

describe("docs/format.md", () => {
  const text = readDocument("docs/format.md");

  test("has the offsets of the layout", () => {
    const rows = tableOf(text, "field");
    const shown = rows.map(([name, ...cells]) => [name, ...cells.slice(0, ABI_NAMES.length)]);
    const place = (abi: CowAbi, index: number): string => {
      const field = headLayout(abi).fields[index];
      return `${field?.offsetBytes}/${field?.sizeBytes}`;
    };
    const fields = headLayout("le64").fields.map(({ name }, index) => [
      name as string,
      ...ABI_NAMES.map((abi) => place(abi, index)),
    ]);
    expect(shown).toEqual([...fields, ["whole", ...ABI_NAMES.map((abi) => `0/${headLayout(abi).sizeBytes}`)]]);
  });

  test("knows the four ABIs", () => {
    const shown = tableOf(text, "ABI").map(([abi, order, word, , size]) => [abi, order, word, size]);
    const known = ABI_NAMES.map((abi) => {
      const { model, sizeBytes } = headLayout(abi);
      return [abi, `${model.endian} endian`, `${model.wordBytes} bytes`, `${sizeBytes} bytes`];
    });
    expect(shown).toEqual(known);
  });

  test("explains every byte of the head that it shows, and each at its place", () => {
    const dump = [...text.matchAll(/^00000(?:00|16|32|48)((?: [0-9a-f]{2})+)$/gm)].slice(0, 4);
    const bytes = dump.flatMap(([, line = ""]) => line.trim().split(" "));
    const layout = headLayout("le64");
    expect(bytes.length).toBe(layout.sizeBytes);
    const explained = tableOf(text, "byte").map(([offset, shown, name]) => [Number(offset), shown, name]);
    const expected = layout.fields.map(({ name, offsetBytes, sizeBytes }) => [
      offsetBytes,
      bytes.slice(offsetBytes, offsetBytes + sizeBytes).join(" "),
      name,
    ]);
    expect(explained).toEqual(expected);
  });

  test("names every problem", () => {
    expect(tableOf(text, "id").map(([id]) => id)).toEqual(Object.keys(COW_PROBLEMS));
  });
});

describe("docs/convert.md", () => {
  test("names everything that may be lost", () => {
    const shown = tableOf(readDocument("docs/convert.md"), "id").map(([id, meaning]) => [id, meaning]);
    expect(shown).toEqual(Object.entries(LOSSES));
  });
});

describe("docs/qcow2.md", () => {
  test("names every problem", () => {
    const shown = tableOf(readDocument("docs/qcow2.md"), "id").map(([id]) => id);
    expect(shown).toEqual(Object.keys(QCOW2_PROBLEMS));
  });
});

describe("docs/serve.md", () => {
  const path = scratchDirectory();
  const noSystemd = skipsLoudly(!isInstalled("systemd-analyze"), "no systemd-analyze: the units are not checked");

  test.skipIf(noSystemd)("tells of units that systemd takes and finds safe", async () => {
    const names = readdirSync(join(ROOT, "contrib/systemd"));
    // The program that they start has to be there.
    for (const name of names)
      writeFileSync(path(name), readDocument(`contrib/systemd/${name}`).replace("/usr/local/bin/cowtool", "/bin/true"));
    const list = names.map((name) => `./${name}`).join(" ");
    const found = await runLine(`systemd-analyze verify --man=no ${list}`, path("."));
    expect(found).toEqual({ status: 0, output: "", errors: "" });
    for (const unit of ["./cowtool@.service", "./cowtool.service"]) {
      const judged = await runLine(`systemd-analyze security --offline=true ${unit} | tail -1`, path("."));
      expect(Number(/exposure level for \S+: ([\d.]+)/.exec(judged.output)?.[1])).toBeLessThanOrEqual(1);
    }
  });
});

describe("docs/scripting.md", () => {
  test("names the schema of every command, by the folder they are in", () => {
    const commands = readdirSync(join(ROOT, "src/commands")).map((name) => name.replace(/\.ts$/, ""));
    const missing = commands.filter((id) => !existsSync(join(ROOT, "schemas", `${id}.schema.json`)));
    expect(missing).toEqual([]);
  });
});

describe("docs/library.md", () => {
  const path = scratchDirectory();
  const examples = blocksOf(readDocument("docs/library.md")).filter(({ language }) => language === "js");

  test("has examples that a strict compiler takes", async () => {
    for (const { text, line } of examples) writeFileSync(path(`example-${line}.mts`), text);
    prepareWorkplace(path("."));
    symlinkSync(join(ROOT, "node_modules", "@types"), path("node_modules/@types"));
    const strictest = {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      noPropertyAccessFromIndexSignature: true,
      skipLibCheck: false,
    };
    const compilerOptions = { ...strictest, module: "nodenext", target: "es2024", types: ["node"], noEmit: true };
    writeFileSync(path("tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.mts"] }));
    const tsc = join(ROOT, "node_modules", ".bin", "tsc");
    const { status, output } = await runLine(`"${tsc}" -p .`, path("."));
    expect(output).toBe("");
    expect(status).toBe(0);
  });
});
