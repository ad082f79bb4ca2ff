/**
 * Proves the page in a real browser: Debian's Chromium, by playwright-core. Runs by `npm run test:browser`, which installs
 * it, and leaves pictures in coverage/page, to be looked at.
 */
import { closeSync, copyFileSync, existsSync, mkdirSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { connect } from "../../src/lib/control/client.ts";
import { create } from "../../src/lib/index.ts";
import { ROOT } from "../support/command/run-command.ts";
import { makeChain } from "../support/nbd/chained-stack.ts";
import { CMD, RawSession } from "../support/nbd/raw-session.ts";
import { makeCowfile, makeImage, startServing, type TestServer } from "../support/nbd/test-server.ts";
import { scratchDirectory } from "../support/scratch.ts";

const CHROMIUM = "/usr/bin/chromium";
const PICTURES = join(ROOT, "coverage/page");
const isWanted = process.env["COWTOOL_BROWSER"] === "1";
const canRun = isWanted && existsSync(CHROMIUM);
if (isWanted && !canRun) process.stderr.write(`SKIPPED: the page in a browser: there is no ${CHROMIUM}\n`);

const SIZE = 64 << 20;
const HOSTILE = `<img src=x onerror="document.title='owned'">\u202egnp.exe`;
const at = scratchDirectory();

describe.skipIf(!canRun)("the page in Chromium", () => {
  let browser: Browser;
  let server: TestServer;
  let address = "";
  let isOver = false;
  let load: Promise<void> = Promise.resolve();
  const complaints: string[] = [];

  beforeAll(async () => {
    mkdirSync(PICTURES, { recursive: true });
    const base = makeImage(at("golden.img"), Buffer.alloc(12 << 20, 1), SIZE);
    const exports = [
      { name: HOSTILE, stack: base },
      ...(await Promise.all(
        Array.from({ length: 198 }, async (_, i) => {
          const name = `vm${i + 1}`;
          return { name, stack: `${base},${await makeCowfile(base, at(`${name}.cow`))}` };
        }),
      )),
      { name: "vm199", stack: await chained(base) },
    ];
    const control = at("control");
    server = await startServing(at, exports, { control, dashboard: { host: "127.0.0.1", port: 0 } });
    const { url, token } = await (await connect({ server: control })).dashboard();
    address = `${url}#token=${token}`;
    load = keepBusy();
    const { chromium } = await import("playwright-core");
    // As root, as in a container, Chromium does not start with its sandbox.
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  });

  afterAll(async () => {
    isOver = true;
    await load;
    await browser?.close();
    await server?.stop();
  });

  /** A disk with two checkpoints, which hold something. */
  async function chained(base: string): Promise<string> {
    const checkpoint = (name: string, day: number) => ({
      name,
      time: new Date(Date.now() - day * 86_400_000).toISOString(),
    });
    const frozen = [
      { file: "c1.cow", checkpoint: checkpoint("monday", 2) },
      { file: "c2.cow", checkpoint: checkpoint("before-the-update", 0.1) },
    ];
    const changed = at("changed.img");
    copyFileSync(base, changed);
    let below = base;
    for (const [i, { file }] of frozen.entries()) {
      const fd = openSync(changed, "r+");
      for (let block = 0; block < 40; block++)
        writeSync(fd, Buffer.alloc(1 << 18, 3), 0, 1 << 18, (block * 6 + i) << 18);
      closeSync(fd);
      await create(below, at(file), { from: changed }, {});
      below += `,${at(file)}`;
    }
    return makeChain(at, "c.stack", base, frozen, "c3.cow");
  }

  /** Some exports are used while the page is looked at. */
  async function keepBusy(): Promise<void> {
    const sessions = await Promise.all(
      ["vm1", "vm2", "vm7"].map((name) => RawSession.open(server.socket, "structured", { name })),
    );
    for (let round = 0; !isOver; round++) {
      for (const [i, session] of sessions.entries()) {
        const offset = ((round * (i + 1) * 37) % 4096) * 4096;
        await session.ask({ type: CMD.WRITE, offset, length: 4096, payload: Buffer.alloc(4096, 2) });
        await session.ask({ type: CMD.READ, offset: (offset + (8 << 20)) % SIZE, length: 16384 });
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await Promise.all(sessions.map((session) => session.goodbye()));
  }

  async function open(
    url: string,
    options: { readonly width?: number; readonly scheme?: "light" | "dark" } = {},
  ): Promise<Page> {
    const { width = 1440, scheme = "light" } = options;
    const page = await browser.newPage({
      viewport: { width, height: 1000 },
      colorScheme: scheme,
      reducedMotion: "reduce",
    });
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(url);
    await page.waitForSelector("#link.live");
    await page.waitForSelector(".list tbody tr:nth-child(200)", { state: "attached" });
    return page;
  }

  /** The page's policy allows no eval, by which Playwright's own waiting is done. */
  async function until(page: Page, condition: string): Promise<void> {
    await expect.poll(() => page.evaluate(`Boolean(${condition})`), { timeout: 20_000 }).toBe(true);
  }

  async function choose(page: Page, name: string): Promise<void> {
    await page.getByRole("button", { name, exact: true }).click();
    await until(page, 'document.querySelectorAll(".cell.base, .cell.top").length > 150');
  }

  test("shows exports, plots, chain and map; syncs with the token, which does not stay in the address", async () => {
    const page = await open(address);
    await choose(page, "vm1");
    expect(page.url()).toMatch(/#export=vm1$/);
    expect(await page.locator("h2").textContent()).toBe("vm1writable");
    await until(page, 'document.querySelector(".tree")?.textContent?.includes("shows")');
    expect(await page.locator(".tree li").allTextContents()).toEqual([
      expect.stringMatching(/^golden\.imgbase · holds .* · shows .* in 200 exports$/),
      expect.stringMatching(/^vm1\.cowlayer, written · holds .* · shows /),
      "1 client",
    ]);
    await until(page, '(document.querySelector("figure path.line")?.getAttribute("d")?.length ?? 0) > 30');
    const label = await page.locator(".plot").first().getAttribute("aria-label");
    expect(label).toMatch(/^Throughput, now: read .*iB\/s, write .*iB\/s$/);
    await page.waitForSelector(".dot.hot", { state: "attached" });
    await page.locator(".head").getByRole("button", { name: "Sync" }).click();
    await until(page, 'document.querySelector("#said")?.textContent?.includes("is durable")');
    await page.screenshot({ path: join(PICTURES, "light.png"), fullPage: true });
    await page.reload();
    await page.waitForSelector(".head .buttons > button:enabled");
    await page.close();
  });

  test("without the token it only shows; dark and narrow it does not overflow", async () => {
    const bare = address.replace(/#.*/, "");
    for (const [name, options] of [
      ["dark", { scheme: "dark" }],
      ["narrow", { width: 390 }],
      ["narrow-dark", { width: 600, scheme: "dark" }],
      ["wide", { width: 2200 }],
    ] as const) {
      const page = await open(`${bare}#export=vm2`, options);
      await until(page, 'document.querySelectorAll(".cell.base, .cell.top").length > 150');
      expect(await page.getByRole("button", { name: "Sync", exact: true }).isDisabled()).toBe(true);
      await until(page, '(document.querySelector("figure path.line")?.getAttribute("d")?.length ?? 0) > 60');
      const overflow = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth");
      expect([name, overflow]).toEqual([name, 0]);
      await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
      await page.close();
    }
  });

  test("a chain with checkpoints is a tree with their names, age and what they hold, and so is the legend of the map", async () => {
    for (const [scheme, width] of [
      ["light", 1440],
      ["dark", 390],
    ] as const) {
      const page = await open(`${address}&export=vm199`, { scheme, width });
      await until(page, 'document.querySelector(".tree")?.textContent?.includes("shows")');
      await until(page, 'document.querySelectorAll(".cell.layer-0, .cell.layer-1").length > 60');
      expect(await page.locator(".tree li").allTextContents()).toEqual([
        expect.stringMatching(/^golden\.imgbase · holds /),
        expect.stringMatching(/^c1\.cow@mondaycheckpoint, 2 d old · holds 1\d MiB · shows /),
        expect.stringMatching(/^c2\.cow@before-the-updatecheckpoint, 2 h 2\d min old · holds 1\d MiB · shows /),
        expect.stringMatching(/^c3\.cowlayer, written · holds /),
        "0 clients",
      ]);
      const legend = await page.locator(".map ~ .legend tbody th").allTextContents();
      expect(legend).toEqual(["c3.cow", "c2.cow @before-the-update", "c1.cow @monday", "golden.img", "zeros"]);
      const overflow = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth");
      expect(overflow).toBe(0);
      await page.screenshot({ path: join(PICTURES, `chain-${scheme}.png`), fullPage: true });
      await page.close();
    }
  });

  test("the button makes a checkpoint, which then is in the chain", async () => {
    const page = await open(`${address}&export=vm199`);
    await page.getByRole("textbox", { name: "Name of the new checkpoint" }).fill("by-hand");
    await page.keyboard.press("Enter");
    await until(page, 'document.querySelector("#said")?.textContent?.startsWith("Checkpoint by-hand of vm199")');
    await until(page, 'document.querySelector(".tree")?.textContent?.includes("@by-hand")');
    await page.screenshot({ path: join(PICTURES, "checkpoint.png"), fullPage: true });
    await page.close();
  });

  test("200 exports are filtered, sorted, and gone through with the keyboard", async () => {
    const page = await open(address);
    expect(await page.locator(".count").textContent()).toBe("200 exports");
    await page.getByRole("searchbox").fill("vm19");
    await until(page, 'document.querySelector(".count")?.textContent === "11 of 200"');
    await page.screenshot({ path: join(PICTURES, "filtered.png") });
    await page.getByRole("searchbox").fill("");
    await page.getByRole("button", { name: "Write", exact: true }).click();
    expect(await page.locator("th[aria-sort=descending]").textContent()).toBe("Write");
    await until(page, '!document.querySelector(".list tbody tr:nth-child(3)")?.classList.contains("idle")');
    await page.screenshot({ path: join(PICTURES, "sorted.png") });
    const focused = (): Promise<string> => page.evaluate('document.activeElement?.textContent ?? ""');
    await page.locator(".list tbody button").first().focus();
    const first = await focused();
    await page.keyboard.press("ArrowDown");
    expect(await focused()).not.toBe(first);
    await page.keyboard.press("ArrowUp");
    expect(await focused()).toBe(first);
    await page.keyboard.press("Enter");
    await until(page, 'document.querySelectorAll(".cell.base").length > 150');
    await page.locator(".map").focus();
    await page.keyboard.press("ArrowRight");
    expect(await page.locator(".told").textContent()).toMatch(/^From 0 B: /);
    await page.locator(".plot").first().focus();
    await page.keyboard.press("ArrowLeft");
    expect(await page.locator("figure thead th").first().textContent()).toBe("5 s ago");
    await page.screenshot({ path: join(PICTURES, "keyboard.png") });
    await page.close();
  });

  test("a hostile name stays text, and its invisible parts are shown", async () => {
    const page = await open(`${address.replace(/#.*/, "")}#${new URLSearchParams({ export: HOSTILE })}`);
    await page.waitForSelector("h2");
    expect(await page.locator("h2 bdi").textContent()).toBe(HOSTILE.replace("\u202e", "\\u{202e}"));
    expect(await page.locator("main img").count()).toBe(0);
    expect(await page.title()).toMatch(/^cowtool on /);
    await page.close();
  });

  test("no script, style or request was refused by the browser, and nothing failed", () => {
    expect(complaints).toEqual([]);
  });
});
