/**
 * Proves squash and flatten of an export that clients read and write meanwhile, on a server with its threads and on real files:
 * nothing changes for them, checkpoints that they have open stay readable, and the old files are gone in the end.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { create } from "../../../src/lib/index.ts";
import { contentOf } from "../../support/nbd/left-behind.ts";
import { NumberedWriter } from "../../support/nbd/numbered-writer.ts";
import { RawSession } from "../../support/nbd/raw-session.ts";
import { makeImage, startServing, type TestServer } from "../../support/nbd/test-server.ts";
import { noise } from "../../support/random.ts";
import { scratchDirectory } from "../../support/scratch.ts";

const MIB = 1 << 20;
const SIZE = 4 * MIB;
const BLOCKS = 24;
const at = scratchDirectory();

interface Disk {
  readonly server: TestServer;
  readonly writers: readonly NumberedWriter[];
  /** Before the last checkpoint was begun. */
  readonly replied: readonly number[];
  /** Once it was made. */
  readonly sent: readonly number[];
  readonly running: Promise<unknown>;
}

/** A disk with three checkpoints, made while four clients write, who go on with that. */
async function start(name: string): Promise<Disk> {
  makeImage(at(`${name}.img`), noise(64 << 10, 1), SIZE);
  await create(at(`${name}.img`), at(`${name}.cow`), { stackFile: at(`${name}.stack`) });
  const server = await startServing(at, [{ name, stack: `stack:${at(`${name}.stack`)}` }]);
  const offsets = [1, 2, 3, 3.5].map((mib) => mib * MIB);
  const writers = await Promise.all(offsets.map((offset) => NumberedWriter.enter(server.socket, name, offset, BLOCKS)));
  const running = Promise.all(writers.map((writer) => writer.run()));
  let replied: readonly number[] = [];
  for (const as of ["one", "two", "three"]) {
    await pause(30);
    replied = writers.map((writer) => writer.replied);
    await server.history.checkpoint([name], { as });
  }
  return { server, writers, replied, sent: writers.map(({ sent }) => sent), running };
}

/** Ends the clients and the server. @returns the disk as clients saw it last, and as the files are */
async function end(name: string, { server, writers, running }: Disk) {
  for (const writer of writers) writer.stop();
  await running;
  const reader = await RawSession.open(server.socket, "structured", { name });
  const image = await reader.read(0, SIZE);
  expect(writers.map((writer) => writer.lastIn(image))).toEqual(writers.map(({ replied }) => replied));
  await reader.goodbye();
  for (const writer of writers) await writer.leave();
  await server.stop();
  expect(server.notices).toEqual([]);
  expect((await contentOf(`stack:${at(`${name}.stack`)}`)).equals(image)).toBe(true);
}

function listed(name: string) {
  const document = JSON.parse(readFileSync(at(`${name}.stack`), "utf8"));
  const layers = document.layers as { readonly file: string; readonly checkpoint?: { readonly name: string } }[];
  return { ...document, files: layers.map(({ file }) => file), names: layers.map((each) => each.checkpoint?.name) };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Files of a disk that are no part of it: all but its base and stack file. */
function others(name: string): readonly string[] {
  const { base, files } = listed(name);
  const known = [`${name}.img`, `${name}.stack`, base.file, ...files];
  return readdirSync(at("."))
    .filter((file) => file.includes(name) && !known.includes(file))
    .filter((file) => !known.some((each) => file.startsWith(`${each}.`)));
}

test("layers are joined under clients that write; a checkpoint that a client reads stays readable", async () => {
  const disk = await start("joined");
  const { server } = disk;
  const reader = await RawSession.open(server.socket, "structured", { name: "joined@one" });
  const before = await reader.read(0, SIZE);
  const job = server.history.squash("joined", { to: "three" });
  await expect(server.history.squash("joined")).rejects.toMatchObject({ code: "locked" });
  await server.history.checkpoint(["joined"], { as: "four" });
  const { squashed, left } = await job;
  expect(squashed).toMatchObject([{ checkpoint: "three", dropped: ["one", "two"] }]);
  expect(listed("joined").names).toEqual(["three", "four", undefined]);
  // The reader's layer stays until it has left.
  expect(left).toEqual([at("joined.cow")]);
  await pause(20);
  expect((await reader.read(0, SIZE)).equals(before)).toBe(true);
  const three = await RawSession.open(server.socket, "structured", { name: "joined@three" });
  const then = await three.read(0, SIZE);
  for (const [i, writer] of disk.writers.entries()) {
    expect(writer.lastIn(then)).toBeGreaterThanOrEqual(disk.replied[i] ?? 0);
    expect(writer.lastIn(then)).toBeLessThanOrEqual(disk.sent[i] ?? 0);
  }
  await three.goodbye();
  await reader.goodbye();
  await end("joined", disk);
  expect(listed("joined")).not.toHaveProperty("to_remove");
  expect(others("joined")).toEqual([]);
});

test("all but the top becomes a new base under clients that write; the old one is untouched", async () => {
  const disk = await start("flat");
  const { server } = disk;
  const job = server.history.flatten("flat", { into: at("flat-new.img") });
  expect(await job).toMatchObject({ base: at("flat-new.img"), dropped: ["one", "two", "three"], left: [] });
  expect(listed("flat")).toMatchObject({ base: { file: "flat-new.img", format: "raw" }, names: [undefined] });
  await pause(20);
  await server.history.checkpoint(["flat"], { as: "four" });
  await expect(server.history.flatten("flat", { into: at("flat.img") })).rejects.toMatchObject({ code: "exists" });
  await end("flat", disk);
  expect(others("flat")).toEqual([]);
  expect(existsSync(at("flat.cow"))).toBe(false);
  expect((await contentOf(at("flat.img"))).subarray(0, 64 << 10).equals(noise(64 << 10, 1))).toBe(true);
});
