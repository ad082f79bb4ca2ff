/**
 * Owns what is fed with spoiled input, and what it must not do: throw anything but a refusal, hang, take memory, lose
 * its own state. One function a target; each draws everything it needs from its random numbers.
 */

import { journalPath } from "../../src/lib/formats/cowfile/live/journal.ts";
import { ABI_NAMES, CowError, MemoryStorage, pack, unpack } from "../../src/lib/index.ts";
import { Handshake } from "../../src/lib/nbd/handshake.ts";
import { OUTBOX_BYTES, Outbox } from "../../src/lib/nbd/outbox.ts";
import { Transmission } from "../../src/lib/nbd/transmission.ts";
import { ServedStack } from "../../src/lib/overlay/live/served-stack.ts";
import { everyCommand, memoryBench } from "../support/every-command.ts";
import * as client from "../support/handshake-client.ts";
import { base, sample } from "../support/hostile-sample.ts";
import { mutate, pick, type Random } from "./mutate.ts";

export type Target = (next: Random) => void | Promise<void>;

const BOOT = new Uint8Array(16).fill(7);
/** Handshakes hold little more than one option; see nbd/handshake.ts. */
const HANDSHAKE_BYTES_AT_MOST = 80 * 1024;

async function refusalOrResult(work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof CowError)) throw error;
  }
}

async function cowfile(next: Random): Promise<void> {
  const cow = mutate(sample(pick(next, ABI_NAMES), { flags: next() < 0.3 ? 1 : 0 }), next);
  await everyCommand(memoryBench(), { base, cow });
}

async function packed(next: Random): Promise<void> {
  const storage = new MemoryStorage();
  storage.put("cow", sample(pick(next, ABI_NAMES)));
  await pack("cow", "pack", { format: pick(next, ["plain", "gzip", "zstd"] as const) }, { storage });
  storage.put("spoiled", mutate(storage.content("pack")?.toBytes() ?? new Uint8Array(), next));
  await refusalOrResult(() => unpack("spoiled", "out", {}, { storage }));
}

function handshake(next: Random): void {
  const machine = new Handshake(client.hostWith(pick(next, ["off", "allow", "require"] as const), client.EXPORTS));
  const words = [
    client.STRUCTURED,
    client.EXTENDED,
    client.info(client.OPT.INFO, "second", [0, 3]),
    client.listContexts("", "base:", "qemu:"),
    client.setContexts("", "base:allocation"),
    client.option(client.OPT.LIST),
    client.option(client.OPT.STARTTLS),
    client.go(""),
  ];
  const said = Buffer.concat([
    client.HELLO,
    ...Array.from({ length: 1 + Math.floor(next() * 6) }, () => pick(next, words)),
  ]);
  const bytes = mutate(said, next);
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + Math.floor(next() * 40);
    const steps = machine.feed(bytes.subarray(at, at + length));
    at += length;
    if (machine.bufferedBytes > HANDSHAKE_BYTES_AT_MOST) throw new Error(`holds ${machine.bufferedBytes} bytes`);
    for (const { kind } of steps) {
      if (kind === "start-tls") machine.tlsStarted();
      if (kind === "close" || kind === "transmission") return;
    }
  }
}

function requests(next: Random, extended: boolean): Buffer {
  const parts: Buffer[] = [];
  for (let count = 1 + Math.floor(next() * 8); count > 0; count--) {
    const head = Buffer.alloc(extended ? 32 : 28);
    const type = Math.floor(next() * 9);
    const length = Math.floor(next() * 3000);
    head.writeUInt32BE(extended ? 0x21e41c71 : 0x25609513, 0);
    head.writeUInt16BE(next() < 0.5 ? 0 : Math.floor(next() * 64), 4);
    head.writeUInt16BE(type, 6);
    head.writeUInt32BE(Math.floor(next() * 14_000), 20);
    head.writeUInt32BE(length, extended ? 28 : 24);
    parts.push(head, ...(type === 1 ? [Buffer.alloc(length, 0x5a)] : []));
  }
  return Buffer.concat(parts);
}

async function transmission(next: Random): Promise<void> {
  const storage = new MemoryStorage();
  storage.put("base", base);
  storage.put("cow", sample(pick(next, ABI_NAMES)));
  const stack = await ServedStack.open(storage, ["base", "cow"], {
    access: pick(next, ["writable", "read-only"] as const),
  });
  const extendedHeaders = next() < 0.5;
  const facts = client.hostWith("off", client.EXPORTS).exports()[0];
  if (!facts) throw new Error("no export");
  const contexts = facts.contexts.map((name, id) => ({ id, name }));
  const agreed = { export: facts, structuredReplies: next() < 0.5, extendedHeaders, contexts };
  const outbox = new Outbox((bytes) => {
    if (bytes.length > OUTBOX_BYTES) throw new Error("more than there is room for");
  });
  const session = new Transmission(stack.image(), agreed, outbox);
  let input = next() < 0.7 ? mutate(requests(next, extendedHeaders), next) : requests(next, extendedHeaders);
  while (!session.isOver) {
    const used = session.consume(input);
    session.answerWaiting(session.waiting);
    session.send();
    input = input.subarray(used);
    if (used === 0) break;
  }
  session.end();
  stack.close();
  // Whatever was asked, the file is a cowfile in order.
  const again = await ServedStack.open(storage, ["base", "cow"], { access: "read-only" });
  again.close();
}

async function crashed(next: Random): Promise<void> {
  const storage = new MemoryStorage();
  storage.put("base", base);
  storage.put("cow", sample(pick(next, ABI_NAMES)));
  const open = () => ServedStack.open(storage, ["base", "cow"], { access: "writable", boot: BOOT });
  const stack = await open();
  const image = stack.image();
  for (let i = 0; i < 3; i++) image.write(new Uint8Array(700).fill(i + 1), Math.floor(next() * 11_000));
  image.commit();
  stack.abandon();
  const journal = journalPath("cow");
  const [cow, log] = [storage.content("cow")?.toBytes(), storage.content(journal)?.toBytes().subarray(0, 8192)];
  if (!cow || !log) throw new Error("nothing was written");
  if (next() < 0.6) storage.put(journal, mutate(log, next));
  if (next() < 0.5) storage.put("cow", mutate(cow, next));
  await refusalOrResult(async () => (await open()).close());
}

export const TARGETS: Readonly<Record<string, Target>> = { cowfile, packed, handshake, transmission, crashed };
