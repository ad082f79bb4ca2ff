/**
 * Owns the table of the command contract: for each command of src/commands, command lines that must work, and every
 * place where it takes a file. A command without a row here fails the contract. Must not run anything.
 */
import type { At } from "./command-files.ts";

/** A command line that works. */
export interface Run {
  readonly title: string;
  readonly argv: (at: At) => readonly string[];
  /** The exit status, 0 unless given. */
  readonly status?: number;
  /** It changes nothing at all on disk. */
  readonly readOnly?: true;
}

/** What a file may hold that is none of ours. */
export type Rubbish = "random.img" | "zero.img" | "empty.img";

/** A place on the command line that takes an existing file. */
export interface Input {
  readonly title: string;
  /** The command line with that file there. */
  readonly argv: (at: At, file: string) => readonly string[];
  /** A sound file for that place. */
  readonly good: string;
  /** The text is a stack, in which a comma of a name is written `\,`. */
  readonly isStack?: true;
  /** Rubbish that is no error here, with the exit status it gives; anything else is refused with 4. */
  readonly takes?: Partial<Record<Rubbish, number>>;
}

/** A place that names a file to be made. */
export interface Output {
  readonly title: string;
  readonly argv: (at: At, output: string) => readonly string[];
}

/** Such a place, and an input that it must not be. */
export interface Collision {
  readonly title: string;
  readonly input: string;
  readonly argv: (at: At, output: string) => readonly string[];
}

export interface CommandRow {
  readonly runs: readonly Run[];
  readonly inputs: readonly Input[];
  readonly outputs: readonly Output[];
  readonly collisions: readonly Collision[];
  /** For a command with `--dry-run`: command lines without it, whose dry run must foretell the real one. */
  readonly foretold?: readonly Run[];
  /** A command line that reports progress. */
  readonly progress?: (at: At) => readonly string[];
}

/** A base is any bytes: what is wrong with it shows only in comparison. */
const ANY_BASE = { "random.img": 0, "zero.img": 0 } as const;

const create: CommandRow = {
  runs: [
    { title: "an empty one", argv: (at) => [at("base.img"), at("new.cow")] },
    { title: "over a stack", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.cow")] },
    {
      title: "from an image, for another machine",
      argv: (at) => [at("base.img"), at("new.cow"), "--from", at("changed.img"), "--abi=be32"],
    },
    { title: "over an old one", argv: (at) => [at("base.img"), at("sibling.cow"), "-f"] },
  ],
  inputs: [
    { title: "RDOFILE", good: "base.img", isStack: true, takes: ANY_BASE, argv: (at, file) => [file, at("new.cow")] },
    {
      title: "a layer of RDOFILE",
      good: "vm.cow",
      isStack: true,
      argv: (at, file) => [`${at("base.img")},${file}`, at("new.cow")],
    },
    {
      title: "--from",
      good: "changed.img",
      isStack: true,
      takes: ANY_BASE,
      argv: (at, file) => [at("base.img"), at("new.cow"), "--from", file],
    },
  ],
  outputs: [{ title: "COWFILE", argv: (at, output) => [at("base.img"), output, "--from", at("changed.img")] }],
  collisions: [
    { title: "COWFILE and RDOFILE", input: "base.img", argv: (at, output) => [at("base.img"), output, "-f"] },
    {
      title: "COWFILE and a layer of RDOFILE",
      input: "vm.cow",
      argv: (at, output) => [`${at("base.img")},${at("vm.cow")}`, output, "-f"],
    },
    {
      title: "COWFILE and --from",
      input: "changed.img",
      argv: (at, output) => [at("base.img"), output, "--from", at("changed.img"), "-f"],
    },
  ],
  progress: (at) => [at("base.img"), at("new.cow"), "--from", at("changed.img")],
};

const info: CommandRow = {
  runs: [
    { title: "a clean one", argv: (at) => [at("vm.cow")], readOnly: true },
    { title: "its map", argv: (at) => [at("be32.cow"), "--map"], readOnly: true },
    { title: "a picture of it", argv: (at) => [at("vm.cow"), "--map=svg", "-o", at("new.svg")] },
    { title: "a dirty one", argv: (at) => [at("dirty.cow"), "-v"], readOnly: true },
    { title: "a plain pack", argv: (at) => [at("plain.pack")], readOnly: true },
    { title: "a gzip pack", argv: (at) => [at("gzip.pack")], readOnly: true },
    { title: "one with an impossible head", argv: (at) => [at("hostile.cow")], readOnly: true },
    {
      title: "one with another base",
      argv: (at) => [at("vm.cow"), "--rdofile", at("random.img")],
      readOnly: true,
    },
  ],
  inputs: [
    { title: "FILE", good: "vm.cow", argv: (_, file) => [file] },
    {
      title: "--rdofile",
      good: "base.img",
      isStack: true,
      takes: { ...ANY_BASE, "empty.img": 0 },
      argv: (at, file) => [at("vm.cow"), "--rdofile", file],
    },
  ],
  outputs: [{ title: "-o", argv: (at, output) => [at("vm.cow"), "--map=svg", "-o", output] }],
  collisions: [
    { title: "-o and FILE", input: "vm.cow", argv: (at, output) => [at("vm.cow"), "--map=svg", "-o", output, "-f"] },
  ],
};

const check: CommandRow = {
  runs: [
    { title: "a sound one", argv: (at) => [at("vm.cow"), "--rdofile", at("base.img")], readOnly: true },
    { title: "a dirty one", argv: (at) => [at("dirty.cow")], status: 1, readOnly: true },
    { title: "one that lost data", argv: (at) => [at("lost.cow"), "-v"], status: 4, readOnly: true },
    { title: "one with an impossible head", argv: (at) => [at("hostile.cow")], status: 4, readOnly: true },
  ],
  inputs: [
    { title: "FILE", good: "vm.cow", argv: (_, file) => [file] },
    {
      title: "--rdofile",
      good: "base.img",
      isStack: true,
      takes: { "random.img": 4, "zero.img": 4, "empty.img": 4 },
      argv: (at, file) => [at("vm.cow"), "--rdofile", file],
    },
  ],
  outputs: [],
  collisions: [],
  progress: (at) => [at("vm.cow")],
};

const repair: CommandRow = {
  runs: [
    { title: "a dirty one", argv: (at) => [at("dirty.cow"), "-v"] },
    { title: "a dirty one, dry", argv: (at) => [at("dirty.cow"), "-n"], status: 1, readOnly: true },
    { title: "a clean one", argv: (at) => [at("vm.cow")] },
    { title: "a clean one, examined", argv: (at) => [at("vm.cow"), "-f", "--rdofile", at("base.img")] },
    { title: "one that lost data", argv: (at) => [at("lost.cow"), "-f"], status: 4 },
    { title: "one that lost data, dry", argv: (at) => [at("lost.cow"), "-fn"], status: 4, readOnly: true },
    { title: "one that lost data, for good", argv: (at) => [at("lost.cow"), "-f", "--drop-lost"] },
  ],
  inputs: [
    { title: "COWFILE", good: "dirty.cow", argv: (_, file) => [file] },
    { title: "COWFILE, dry", good: "vm.cow", argv: (_, file) => [file, "-n"] },
    {
      title: "--rdofile",
      good: "base.img",
      isStack: true,
      argv: (at, file) => [at("dirty.cow"), "--rdofile", file],
    },
  ],
  outputs: [],
  collisions: [
    {
      title: "COWFILE and --rdofile",
      input: "base.img",
      argv: (at, output) => [output, "-f", "--rdofile", at("base.img")],
    },
  ],
  foretold: [
    { title: "a dirty one", argv: (at) => [at("dirty.cow")] },
    { title: "a clean one", argv: (at) => [at("vm.cow")] },
    { title: "one that lost data", argv: (at) => [at("lost.cow"), "-f"] },
    { title: "one that lost data, for good", argv: (at) => [at("lost.cow"), "-f", "--drop-lost"] },
  ],
  progress: (at) => [at("dirty.cow")],
};

const merge: CommandRow = {
  runs: [
    { title: "in place", argv: (at) => [at("base.img"), at("vm.cow"), "-y"] },
    { title: "in place, to be undone", argv: (at) => [at("base.img"), at("vm.cow"), "-y", "--undo", at("undo.cow")] },
    { title: "in place, dry", argv: (at) => [at("base.img"), at("vm.cow"), "-n"], readOnly: true },
    { title: "into a new image", argv: (at) => [at("base.img"), at("vm.cow"), "-o", at("new.img")] },
    {
      title: "into a new image, dry",
      argv: (at) => [at("base.img"), at("vm.cow"), "-n", "-o", at("new.img")],
      readOnly: true,
    },
    { title: "what is there already", argv: (at) => [at("changed.img"), at("vm.cow"), "-y"] },
  ],
  inputs: [
    { title: "RDOFILE", good: "base.img", argv: (at, file) => [file, at("vm.cow"), "-y"] },
    { title: "COWFILE", good: "vm.cow", argv: (at, file) => [at("base.img"), file, "-y"] },
    { title: "RDOFILE, dry", good: "base.img", argv: (at, file) => [file, at("vm.cow"), "-n"] },
    { title: "RDOFILE with -o", good: "base.img", argv: (at, file) => [file, at("vm.cow"), "-o", at("new.img")] },
    { title: "COWFILE with -o", good: "vm.cow", argv: (at, file) => [at("base.img"), file, "-o", at("new.img")] },
  ],
  outputs: [
    { title: "-o", argv: (at, output) => [at("base.img"), at("vm.cow"), "-o", output] },
    { title: "--undo", argv: (at, output) => [at("base.img"), at("vm.cow"), "-y", "--undo", output] },
  ],
  collisions: [
    { title: "RDOFILE and COWFILE", input: "vm.cow", argv: (at, output) => [output, at("vm.cow"), "-f", "-y"] },
    {
      title: "-o and RDOFILE",
      input: "base.img",
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-f", "-y", "-o", output],
    },
    {
      title: "-o and COWFILE",
      input: "vm.cow",
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-f", "-y", "-o", output],
    },
    {
      title: "--undo and RDOFILE",
      input: "base.img",
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-f", "-y", "--undo", output],
    },
    {
      title: "--undo and COWFILE",
      input: "vm.cow",
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-f", "-y", "--undo", output],
    },
  ],
  foretold: [
    { title: "in place", argv: (at) => [at("base.img"), at("vm.cow"), "-y"] },
    { title: "in place, to be undone", argv: (at) => [at("base.img"), at("vm.cow"), "-y", "--undo", at("undo.cow")] },
    { title: "into a new image", argv: (at) => [at("base.img"), at("vm.cow"), "-o", at("new.img")] },
    { title: "what is there already", argv: (at) => [at("changed.img"), at("vm.cow"), "-y"] },
  ],
  progress: (at) => [at("base.img"), at("vm.cow"), "-y", "--undo", at("undo.cow")],
};

const verifyFingerprint: CommandRow = {
  runs: [
    { title: "the right base", argv: (at) => [at("base.img"), at("vm.cow")], readOnly: true },
    { title: "a pack", argv: (at) => [at("base.img"), at("gzip.pack")], readOnly: true },
    { title: "another base", argv: (at) => [at("random.img"), at("dirty.cow")], status: 1, readOnly: true },
    { title: "a stack", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("top.cow")], readOnly: true },
  ],
  inputs: [
    {
      title: "RDOFILE",
      good: "base.img",
      isStack: true,
      takes: { "random.img": 1, "zero.img": 1, "empty.img": 1 },
      argv: (at, file) => [file, at("vm.cow")],
    },
    { title: "COWFILE", good: "vm.cow", argv: (at, file) => [at("base.img"), file] },
  ],
  outputs: [],
  collisions: [],
};

const pack: CommandRow = {
  runs: [
    { title: "unasked", argv: (at) => [at("vm.cow"), at("new.pack")] },
    { title: "plain", argv: (at) => [at("vm.cow"), at("new.pack"), "--format=plain"] },
    { title: "gzip, over an old one", argv: (at) => [at("be32.cow"), at("plain.pack"), "--format=gzip", "-f"] },
  ],
  inputs: [{ title: "COWFILE", good: "vm.cow", argv: (at, file) => [file, at("new.pack")] }],
  outputs: [{ title: "PACKFILE", argv: (at, output) => [at("vm.cow"), output] }],
  collisions: [{ title: "PACKFILE and COWFILE", input: "vm.cow", argv: (at, output) => [at("vm.cow"), output, "-f"] }],
  progress: (at) => [at("vm.cow"), at("new.pack")],
};

const unpack: CommandRow = {
  runs: [
    { title: "plain", argv: (at) => [at("plain.pack"), at("new.cow")] },
    { title: "gzip, over an old one", argv: (at) => [at("gzip.pack"), at("sibling.cow"), "-f"] },
  ],
  inputs: [
    { title: "PACKFILE, plain", good: "plain.pack", argv: (at, file) => [file, at("new.cow")] },
    { title: "PACKFILE, gzip", good: "gzip.pack", argv: (at, file) => [file, at("new.cow")] },
  ],
  outputs: [{ title: "COWFILE", argv: (at, output) => [at("gzip.pack"), output] }],
  collisions: [
    { title: "COWFILE and PACKFILE", input: "gzip.pack", argv: (at, output) => [at("gzip.pack"), output, "-f"] },
  ],
  progress: (at) => [at("plain.pack"), at("new.cow")],
};

/** Rubbish is an image like any other: it differs. */
const OTHER_IMAGE = { "random.img": 1, "zero.img": 1, "empty.img": 1 } as const;

const diff: CommandRow = {
  runs: [
    {
      title: "a stack and the image it shows",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("changed.img")],
      readOnly: true,
    },
    { title: "two images", argv: (at) => [at("base.img"), at("changed.img")], status: 1, readOnly: true },
    { title: "two sizes of image", argv: (at) => [at("base.img"), at("empty.img")], status: 1, readOnly: true },
    { title: "two cowfiles", argv: (at) => [at("vm.cow"), at("sibling.cow")], status: 1, readOnly: true },
    {
      title: "two cowfiles over their base",
      argv: (at) => [at("vm.cow"), at("sibling.cow"), "--rdofile", at("base.img"), "--map"],
      status: 1,
      readOnly: true,
    },
    {
      title: "with a delta",
      argv: (at) => [at("base.img"), at("changed.img"), "-o", at("new.cow")],
      status: 1,
    },
  ],
  inputs: [
    { title: "A", good: "base.img", isStack: true, takes: OTHER_IMAGE, argv: (at, file) => [file, at("base.img")] },
    { title: "B", good: "base.img", isStack: true, takes: OTHER_IMAGE, argv: (at, file) => [at("base.img"), file] },
    {
      title: "a layer of A",
      good: "vm.cow",
      isStack: true,
      argv: (at, file) => [`${at("base.img")},${file}`, at("changed.img")],
    },
    {
      title: "--rdofile",
      good: "base.img",
      isStack: true,
      argv: (at, file) => [at("vm.cow"), at("be32.cow"), "--rdofile", file],
    },
  ],
  outputs: [
    { title: "-o", argv: (at, output) => [at("base.img"), at("changed.img"), "-o", output] },
    { title: "-o, a picture", argv: (at, output) => [at("base.img"), at("changed.img"), "--map=svg", "-o", output] },
  ],
  collisions: [
    {
      title: "-o and A",
      input: "base.img",
      argv: (at, output) => [at("base.img"), at("changed.img"), "-f", "-o", output],
    },
    {
      title: "-o and B",
      input: "changed.img",
      argv: (at, output) => [at("base.img"), at("changed.img"), "-f", "-o", output],
    },
    {
      title: "-o, a picture, and A",
      input: "base.img",
      argv: (at, output) => [at("base.img"), at("changed.img"), "-f", "--map=svg", "-o", output],
    },
    {
      title: "-o and a layer",
      input: "vm.cow",
      argv: (at, output) => [`${at("base.img")},${at("vm.cow")}`, at("other.img"), "-f", "-o", output],
    },
  ],
  progress: (at) => [at("base.img"), at("changed.img")],
};

/** By the name of the command's file. */
export const COMMAND_ROWS: Readonly<Record<string, CommandRow>> = {
  check,
  create,
  diff,
  info,
  merge,
  pack,
  repair,
  unpack,
  "verify-fingerprint": verifyFingerprint,
};
