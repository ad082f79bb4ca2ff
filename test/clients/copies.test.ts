/**
 * Whole images through a server of ours, in and out, by nbdcopy and qemu-img: what arrives is what was sent, and the base
 * is as it was.
 */
import { spawnSync } from "node:child_process";
import { afterEach, describe, expect, test } from "vitest";
import { cowtool, isClean, MIB, makeBase } from "../support/clients/images.ts";
import { client, missesClients } from "../support/clients/programs.ts";
import { type Served, startServe } from "../support/clients/server.ts";
import { sampleOf } from "../support/sample.ts";
import { scratchDirectory, sha256 } from "../support/scratch.ts";

const SIZE = 40 * MIB;

const noNbdcopy = missesClients("images are not copied by nbdcopy", "nbdcopy");
const noQemu = missesClients("images are not copied by qemu-img", "qemu-img");

const path = scratchDirectory();
const base = makeBase(path("base"), SIZE);
const baseSum = sha256(base);
/** What is copied in: data, and a hole. */
const source = makeBase(path("source"), 10 * MIB + 512, SIZE);
let served: Served | undefined;
let count = 0;

async function serveNew(): Promise<{ readonly uri: string; readonly cowfile: string }> {
  const cowfile = path(`copy-${++count}.cow`);
  await cowtool("create", base, cowfile);
  served = await startServe([base, cowfile, "--socket", path(`copy-${count}.sock`)]);
  return { uri: served.uri, cowfile };
}

/** Ends the server; the stack must now hold what was copied in, as cowtool itself sees it. */
async function expectHeld(cowfile: string): Promise<void> {
  expect(await served?.stop()).toMatchObject({ status: 0 });
  expect(await isClean(base, cowfile)).toBe(true);
  expect(sha256(base)).toBe(baseSum);
  await cowtool("diff", `${base},${cowfile}`, source);
}

afterEach(() => served?.stop("SIGKILL"));

describe.skipIf(noNbdcopy)("nbdcopy", () => {
  const ways = [
    "--connections=4 --requests=16",
    "--synchronous",
    "--allocated --flush --connections=4",
    "--sparse=0 --request-size=65536",
  ];
  test.each(sampleOf(ways, 2))("copies an image in and out: %s", async (way) => {
    const { uri, cowfile } = await serveNew();
    await client("nbdcopy", ...way.split(" "), source, uri);
    await client("nbdcopy", uri, path("back.img"));
    expect(sha256(path("back.img"))).toBe(sha256(source));
    await expectHeld(cowfile);
  });

  test("leaves what the base has where a destination is said to be zero", async () => {
    const { uri } = await serveNew();
    await client("nbdcopy", "--destination-is-zero", source, uri);
    await client("nbdcopy", "--connections=4", uri, path("mixed.img"));
    expect(sha256(path("mixed.img"), 10 * MIB)).toBe(sha256(source, 10 * MIB));
    expect(spawnSync("cmp", ["-s", "-i", String(20 * MIB), path("mixed.img"), base]).status).toBe(0);
  });

  test("copies from one server of ours to another", async () => {
    const { uri, cowfile } = await serveNew();
    const from = await startServe([source, "--socket", path("from.sock")]);
    await client("nbdcopy", "--connections=4", from.uri, uri);
    expect(await from.stop()).toMatchObject({ status: 0 });
    await expectHeld(cowfile);
  });

  test("starts a server by socket activation and copies its image to a pipe, where not a byte of ours belongs", () => {
    const script = 'node=$1; image=$2; nbdcopy -- [ "$node" bin/run.js serve "$image" ] - | cmp - "$image"';
    const { status, stdout, stderr } = spawnSync("sh", ["-c", script, "sh", process.execPath, source], {
      encoding: "utf8",
      timeout: 20_000,
    });
    expect({ status, stdout, stderr }).toMatchObject({ status: 0, stdout: "" });
  });
});

describe.skipIf(noQemu)("qemu-img", () => {
  test("converts an image in and out, and finds it equal", async () => {
    const { uri, cowfile } = await serveNew();
    await client("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-m", "8", "-W", source, uri);
    expect(await client("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)).toContain("identical");
    const out = path("out.qcow2");
    await client("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, out);
    expect(await client("qemu-img", "compare", "-f", "qcow2", "-F", "raw", out, source)).toContain("identical");
    await expectHeld(cowfile);
  });

  test("tells that two images differ", async () => {
    const { uri } = await serveNew();
    await expect(client("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)).rejects.toThrow("mismatch");
  });
});
