/**
 * Proves the command line of `ctl` against a running server: what each verb prints, its JSON by the schema, which flags go
 * with which verb, and how the server is found.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { attachTarget } from "../../src/cli/attach-target.ts";
import Ctl from "../../src/commands/ctl.ts";
import { CowError } from "../../src/lib/errors.ts";
import { fakeTerminal } from "../support/command/fake-terminal.ts";
import { expectErrorLine, expectJson, type Ran } from "../support/command/harness.ts";
import { runCommand } from "../support/command/run-command.ts";
import { makeChain } from "../support/nbd/chained-stack.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../support/nbd/test-server.ts";
import { tellHistory } from "../support/nbd/told-history.ts";
import { scratchDirectory } from "../support/scratch.ts";

const at = scratchDirectory();
const servers: TestServer[] = [];

async function ctl(...argv: string[]): Promise<Ran> {
  const terminal = fakeTerminal({ columns: 200 });
  await runCommand(Ctl, argv, terminal);
  return { stdout: terminal.out(), stderr: terminal.err(), status: terminal.exitCode() };
}

/** What a verb prints for people, and its JSON by the schema. */
async function answer(...argv: string[]): Promise<string> {
  const { stdout, stderr, status } = await ctl(...argv);
  expect([stderr, status]).toEqual(["", 0]);
  return stdout;
}

beforeAll(async () => {
  mkdirSync(at("run"));
  process.env["COWTOOL_RUNTIME_DIR"] = at("run");
  makeImage(at("base.img"), Buffer.from("golden"), 1 << 20);
  for (const name of ["vm1", "vm2"]) await makeCowfile(at("base.img"), at(`${name}.cow`));
  servers.push(await startServing(at, [at("base.img"), at("vm1.cow")], { control: at("run/one.control") }));
});

afterAll(async () => {
  process.env["COWTOOL_RUNTIME_DIR"] = "";
  await Promise.all(servers.map((server) => server.stop()));
});

describe("ctl", () => {
  test("finds the only server, and asks which one where there are two", async () => {
    expect(await answer("list")).toMatch(/^NAME .*\n\(default\) +open +writable +1048576 \(1 MiB\) +0 +\S+vm1\.cow\n$/);
    servers.push(await startServing(at, [at("base.img")], { control: at("run/two.control") }));
    const unsure = expectErrorLine(await ctl("list"), 16);
    expect(unsure).toContain("2 servers are running");
    expect(await answer("list", "--server", "two")).toMatch(/read-only/);
    expect(await answer("list", "--server", at("run/one.control"))).toMatch(/writable/);
    await servers.pop()?.stop();
    expect(expectErrorLine(await ctl("list", "--server", "two"), 8)).toContain("no server listens");
  });

  test("has the URI by which attach finds an export by its name", async () => {
    const uri = await attachTarget("", { name: undefined, server: undefined });
    expect(uri).toContain("?socket=");
    await expect(attachTarget("vm9", { name: undefined, server: undefined })).rejects.toMatchObject({
      code: "not-found",
    });
    const socket = new URL(uri).searchParams.get("socket") ?? "";
    expect(await attachTarget(socket, { name: "vm 1", server: undefined })).toBe(uri.replace("///?", "///vm%201?"));
    expect(await attachTarget(uri, { name: undefined, server: undefined })).toBe(uri);
    const wrong = attachTarget(uri, { name: "vm1", server: undefined });
    await expect(wrong).rejects.toMatchObject({ code: "usage" });
    await expect(attachTarget("./none", { name: undefined, server: undefined })).rejects.toMatchObject({
      code: "not-found",
    });
  });

  test("adds, shows, closes, opens again and removes an export by names relative to here", async () => {
    const stack = [at("base.img"), at("vm2.cow")].map((path) => join("..", "..", path)).join(",");
    const here = process.cwd();
    mkdirSync(at("a/b"), { recursive: true });
    process.chdir("/usr/bin");
    try {
      expect(await answer("add", `vm 2=${stack}`)).toMatch(/^nbd\+unix:\/\/\/vm%202\?socket=/);
    } finally {
      process.chdir(here);
    }
    expect(await answer("show", "vm 2")).toMatch(/^name: +vm 2\nstate: +open\naccess: +writable\nURI: /);
    expect(await answer("close", "vm 2")).toBe("vm 2 is closed\n");
    expect(await answer("reopen", "vm 2", "--read-only")).toBe("vm 2 is open, read-only\n");
    expect(await answer("sync")).toBe("2 exports are durable\n");
    expect(await answer("remove", "vm 2", "--drain", "-q")).toBe("");
    expect(await answer("jobs")).toMatch(/^ID .*\n1 +drain +vm 2 +done\n$/);
    expectErrorLine(await ctl("show", "vm 2"), 8);
  });

  test("answers in JSON by its schema, verb by verb", async () => {
    const stack = `${at("base.img")},${at("vm2.cow")}`;
    const lines = [
      ["list"],
      ["show", ""],
      ["add", `x=${stack}`],
      ["sync", "x"],
      ["close", "x"],
      ["reopen", "x"],
      ["remove", "x"],
      ["limit", "", "--iops", "100", "--quota", "1G"],
      ["limit", "", "--iops", "none"],
      ["stats"],
      ["stats", ""],
      ["jobs"],
      ["watch", "", "--below", "1000T"],
    ];
    for (const argv of lines) {
      const { stdout, status } = await ctl(...argv, "--json");
      expect([argv, status]).toEqual([argv, 0]);
      expectJson(stdout, "ctl");
    }
  });

  test("shows a chain as a tree, with other exports where they branch off", async () => {
    const monday = { name: "monday", time: "2026-11-23T06:00:00.000Z", note: "before the update" };
    const stack = await makeChain(at, "t.stack", at("base.img"), [{ file: "t1.cow", checkpoint: monday }], "t2.cow");
    const fork = await makeChain(at, "f.stack", at("base.img"), [{ file: "t1.cow", shared: true }], "f.cow");
    for (const [name, text] of [
      ["tree", stack],
      ["fork", fork],
    ])
      await answer("add", `${name}=${text}`);
    const shown = (await answer("show", "tree")).split("\n").slice(-7, -1);
    expect(shown).toEqual([
      expect.stringMatching(/^CHAIN +CHECKPOINT +ROLE +HELD +AGE +NOTE$/),
      expect.stringMatching(/^base\.img +- +base +4 KiB +new$/),
      expect.stringMatching(/^├─\s\(default\) +- +export +- +-$/),
      expect.stringMatching(/^└─\st1\.cow +monday +frozen +\d+ KiB +(?:new|\d+ \w+) +before the update$/),
      expect.stringMatching(/^\s{3}├─\sfork +- +export +- +-$/),
      expect.stringMatching(/^\s{3}└─\st2\.cow +- +written +\d+ KiB +new$/),
    ]);
    expectJson((await ctl("checkpoint", "fork", "--as", "cp", "--json")).stdout, "ctl");
    expect(await answer("checkpoint", "tree", "--as", "cp", "--note", "n")).toMatch(
      /^tree@cp: writes go to \S+\.cow\npaused for \d+\.\d ms\n$/,
    );
    for (const name of ["tree", "fork"]) await answer("remove", name, "-q");
  });

  test("asks for checkpoints, rollbacks, forks and more, and prints what came of them", async () => {
    const history = await tellHistory(at("told.sock"));
    await history.exports.add({ name: "x", stack: at("base.img") });
    await history.exports.add({ name: "y", stack: at("base.img") });
    const lines = [
      [
        ["checkpoint", "x", "y", "--as", "cp", "--note", "n"],
        /^x@cp: writes go to x-2\.cow\ny@cp: .*\npaused for 1\.3 ms\n$/,
      ],
      [["rollback", "x", "cp"], /^x is as of cp; 1 file removed\n$/],
      [
        ["rollback", "x", "cp", "--keep", "k.stack", "--discard", "--force"],
        /^x is as of cp; what was there is \/.*\/k\.stack\n$/,
      ],
      [["fork", "x@cp", "z", "--cowfile", "z.cow"], /^nbd:\/\/x\n$/],
      [["fork", "x", "z"], /^nbd:\/\/x\n$/],
      [["drop", "x", "cp"], /^x@cp is dropped\n$/],
      [["grow", "x", "2G", "--force"], /^x has 1048576 \(1 MiB\)\n$/],
      [["squash", "x", "a..b", "--no-wait"], /^ID .*\n1 +squash +x +running\n$/],
    ] as const;
    for (const [argv, shown] of lines) expect(await answer(...argv, "--server", at("told.sock"))).toMatch(shown);
    expect(history.told.slice(1)).toEqual([
      ["rollback", "x", { checkpoint: "cp", discard: false, force: false }],
      ["rollback", "x", { checkpoint: "cp", keep: join(process.cwd(), "k.stack"), discard: true, force: true }],
      ["fork", "x", { as: "z", checkpoint: "cp", cowfile: join(process.cwd(), "z.cow") }],
      ["fork", "x", { as: "z" }],
      ["drop", "x", "cp"],
      ["grow", "x", 2 ** 31, { force: true }],
      ["squash", "x", { from: "a", to: "b" }],
    ]);
    const json = [
      ["checkpoint", "x", "--as", "cp"],
      ["rollback", "x", "cp"],
      ["fork", "x@cp", "z"],
      ["drop", "x", "cp"],
      ["grow", "x", "2G"],
    ];
    for (const argv of json) expectJson((await ctl(...argv, "--server", at("told.sock"), "--json")).stdout, "ctl");
    history.finish();
    const flattened = ctl("flatten", "x", "--into", "new.img", "--server", at("told.sock"), "--json");
    await expect.poll(() => history.told.at(-1)).toEqual(["flatten", "x", { into: join(process.cwd(), "new.img") }]);
    history.finish(new CowError("no-space", "the file system is full", { file: "new.img" }));
    expect(expectErrorLine(await ctl("squash", "x", "..", "--server", at("told.sock")), 16)).toContain("FROM..TO");
    expect((await flattened).status).toBe(8);
  });

  test("shows limits and figures", async () => {
    const limits =
      "name:      the default export\nrequests:  7 a second\nbandwidth: 1048576 (1 MiB) a second\nquota:     none\n";
    expect(await answer("limit", "", "--iops", "7", "--bandwidth", "1M", "--quota", "none")).toBe(limits);
    expect(await answer("stats")).toMatch(/^NAME +READS .*\n\(default\) +0 +0 +0 B +0 B +0 +0 +0\/0\n$/);
  });

  test("prints the page's address with its token, and says where there is no page", async () => {
    expect(expectErrorLine(await ctl("dashboard"), 8)).toContain("--dashboard");
    const dashboard = { host: "127.0.0.1", port: 0 };
    servers.push(await startServing(at, [at("base.img")], { control: at("page.sock"), dashboard }));
    expect(await answer("dashboard", "--server", at("page.sock"))).toMatch(
      /^http:\/\/127\.0\.0\.1:\d+\/#token=[\w-]{32}\n$/,
    );
    expectJson((await ctl("dashboard", "--server", at("page.sock"), "--json")).stdout, "ctl");
    await servers.pop()?.stop();
  });

  test("runs a command once space is low", async () => {
    const command = `echo "$COWTOOL_EXPORT:$COWTOOL_BELOW" >${at("told")}`;
    expect(await answer("watch", "", "--below", "1000T", "--exec", command)).toMatch(
      /space-below: the default export: /,
    );
    expect(readFileSync(at("told"), "utf8")).toBe(`:${1000 * 2 ** 40}\n`);
    expect(expectErrorLine(await ctl("watch", "", "--below", "1000T", "--exec", "exit 3"), 8)).toContain("status 3");
  });

  test.each([
    [["lst"], "list"],
    [["list", "x"], "too many"],
    [["show"], "missing"],
    [["add", "x"], "NAME=STACK"],
    [["list", "--drain"], "--drain does not go with ctl list"],
    [["watch", "--exec", "true"], "--below"],
    [["watch", "--below", "1G"], "NAME"],
    [["jobs", "cancel", "x"], "ID"],
    [["checkpoint", "x"], "--as"],
    [["squash", "x", "a"], "FROM..TO"],
    [["flatten", "x"], "--into"],
    [["rollback", "x"], "missing"],
    [["fork", "x", "y", "--note", "n"], "--note"],
    [["show", "x", "--note", "n"], "--note"],
    [["limit", "", "--iops", "0"], "--iops"],
    [["add", "x=y", "--read-only", "--ephemeral"], "ephemeral"],
  ])("refuses %j", async (argv, word) => {
    expect(expectErrorLine(await ctl(...argv), 16)).toContain(word);
  });
});
