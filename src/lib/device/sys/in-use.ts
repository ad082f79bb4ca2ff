/**
 * Owns finding out what uses a file or block device besides processes that lock it: mounts (of itself, of its
 * partitions, of loop devices and mappings over it), swap, and holders such as device-mapper. Uses in another mount
 * namespace are not visible here; the kernel's claim on the device, which O_EXCL asks for, is.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import { CowError, errnoName } from "../../errors.ts";
import { deviceOf, listSys, readSysText, statOf, sysfsFolder } from "./device-number.ts";
import { identityOf } from "./underlying.ts";

export interface Use {
  readonly kind: "mount" | "swap" | "holder" | "claim";
  /** A verb phrase: `is mounted at /mnt`. */
  readonly what: string;
}

export interface Roots {
  readonly proc: string;
  readonly sys: string;
}

const ROOTS: Roots = { proc: "/proc", sys: "/sys" };
const MAX_DEPTH = 8;
const UNNAMED_MAJOR = "0:";

/** Names in /proc have blanks and the like as octal numbers. */
function decodeOctal(name: string): string {
  return name.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function identityAt(file: string): string | undefined {
  const stat = file.startsWith("/") ? statOf(file) : undefined;
  return stat && identityOf(stat);
}

/** Who uses what, by the identity of the file or device. */
interface Table {
  readonly roots: Roots;
  readonly madeAtMs: number;
  /** Mounts and swap. */
  readonly uses: ReadonlyMap<string, readonly Use[]>;
  /** The names of the loop devices over a file. */
  readonly loops: ReadonlyMap<string, readonly string[]>;
}

function* directUses({ proc }: Roots): Generator<readonly [identity: string | undefined, use: Use]> {
  for (const line of readSysText(proc, "self/mountinfo").split("\n")) {
    const [left = "", right = ""] = line.split(" - ");
    const [, , number = "", , at = ""] = left.split(" ");
    if (number === "") continue;
    // Btrfs, and file systems that mount a file by itself, have device numbers of their own: for these the source is
    // compared.
    const mounted = number.startsWith(UNNAMED_MAJOR)
      ? identityAt(decodeOctal(right.split(" ")[1] ?? ""))
      : `block:${deviceOf(number)}`;
    yield [mounted, { kind: "mount", what: `is mounted at ${decodeOctal(at)}` }];
  }
  for (const line of readSysText(proc, "swaps").split("\n").slice(1))
    yield [identityAt(decodeOctal(line.split(/\s/)[0] ?? "")), { kind: "swap", what: "is used as swap space" }];
}

function* loopDevices({ sys }: Roots): Generator<readonly [identity: string | undefined, name: string]> {
  for (const name of listSys(sys, "block")) {
    const backing = name.startsWith("loop") ? readSysText(sys, "block", name, "loop/backing_file") : "";
    if (backing !== "") yield [identityAt(backing), name];
  }
}

function makeTable(roots: Roots): Table {
  const byIdentity = <Item>(pairs: Iterable<readonly [string | undefined, Item]>): Map<string, Item[]> => {
    const map = new Map<string, Item[]>();
    for (const [identity, item] of pairs) {
      if (identity === undefined) continue;
      const known = map.get(identity);
      if (known) known.push(item);
      else map.set(identity, [item]);
    }
    return map;
  };
  return {
    roots,
    madeAtMs: performance.now(),
    uses: byIdentity(directUses(roots)),
    loops: byIdentity(loopDevices(roots)),
  };
}

/** So old a table may be while many files are opened. */
const MOMENT_MS = 250;

let moment: Table | undefined;

/**
 * The files that `work` opens one after the other are looked up among mounts, swap and loop devices of a moment ago. For
 * commands that open very many: a mount that comes while such a command runs is in no order with it, also if each file was
 * looked up by itself.
 */
export async function lookedUpTogether<Result>(work: () => Promise<Result>, roots = ROOTS): Promise<Result> {
  moment = makeTable(roots);
  try {
    return await work();
  } finally {
    moment = undefined;
  }
}

function tableOf(roots: Roots): Table {
  if (moment?.roots !== roots) return makeTable(roots);
  if (performance.now() - moment.madeAtMs > MOMENT_MS) moment = makeTable(roots);
  return moment;
}

function nameOf(folder: string): string {
  const mapped = readSysText(folder, "dm/name");
  return mapped === "" ? `/dev/${path.basename(folder)}` : `/dev/mapper/${mapped}`;
}

function* usesAt(
  identity: string,
  folder: string | undefined,
  { table, roots }: { readonly table: Table; readonly roots: Roots },
  depth: number,
): Generator<Use> {
  yield* table.uses.get(identity) ?? [];
  if (depth > MAX_DEPTH) return;
  const through = function* (upper: string, how: string): Generator<Use> {
    const dev = readSysText(upper, "dev");
    if (dev === "") return;
    const name = nameOf(upper);
    for (const use of usesAt(`block:${deviceOf(dev)}`, upper, { table, roots }, depth + 1))
      yield { ...use, what: `${how} ${name}, which ${use.what}` };
  };
  for (const loop of table.loops.get(identity) ?? []) {
    const upper = path.join(roots.sys, "block", loop);
    const uses = [...through(upper, "is behind")];
    yield* uses;
    if (uses.length === 0 && isClaimed(`/dev/${loop}`))
      yield { kind: "claim", what: `is behind /dev/${loop}, which is claimed by another process or by the kernel` };
  }
  if (folder === undefined) return;
  for (const entry of listSys(folder)) {
    if (readSysText(folder, entry, "partition") !== "") yield* through(path.join(folder, entry), "holds");
  }
  for (const holder of listSys(folder, "holders")) {
    const upper = path.join(folder, "holders", holder);
    const uses = [...through(upper, "is a part of")];
    const kind = "holder" as const;
    yield* uses.length > 0 ? uses.map((use) => ({ ...use, kind })) : [{ kind, what: `is a part of ${nameOf(upper)}` }];
  }
}

/** Has the kernel, or a process with O_EXCL, claimed a block device for itself? */
function isClaimed(device: string): boolean {
  try {
    fs.closeSync(fs.openSync(device, fs.constants.O_RDONLY | fs.constants.O_EXCL | fs.constants.O_NONBLOCK));
    return false;
  } catch (error) {
    return errnoName(error) === "EBUSY";
  }
}

/** Every visible use of a file or block device. */
export function usesOf(stat: fs.Stats, roots: Roots = ROOTS): readonly Use[] {
  const folder = stat.isBlockDevice() ? sysfsFolder(stat.rdev, roots.sys) : undefined;
  return [...usesAt(identityOf(stat), folder, { table: tableOf(roots), roots }, 0)];
}

const CLAIMED: Use = { kind: "claim", what: "is claimed by another process or by the kernel" };

/** The error for a device that could not be opened with O_EXCL, or for a use. */
export function inUse(file: string, { kind, what }: Use = CLAIMED): CowError {
  const ways = {
    mount: "unmount it first; with --force `merge` writes anyway, which can damage the mounted file system",
    swap: "`swapoff` frees it",
    holder: "close what is made of it first, or name that instead",
    claim: "try again when it is free",
  };
  return new CowError("locked", `${what}; nothing was changed`, {
    file,
    details: { in_use: kind },
    hints: [ways[kind]],
  });
}

/**
 * Makes sure that nothing uses a file that is to be written.
 * @param mounted whether a mount counts, too
 * @returns the flag for opening a block device so that it stays free
 * @throws CowError `locked`
 */
export function requireFree(file: string, mounted: "refuse" | "allow"): number {
  const stat = statOf(file);
  if (!stat?.isFile() && !stat?.isBlockDevice()) return 0;
  const uses = usesOf(stat);
  const [obstacle] = uses.filter(({ kind }) => mounted === "refuse" || kind !== "mount");
  if (obstacle) throw inUse(file, obstacle);
  if (uses.length > 0 || !stat.isBlockDevice()) return 0;
  if (isClaimed(file)) throw inUse(file);
  return fs.constants.O_EXCL;
}
