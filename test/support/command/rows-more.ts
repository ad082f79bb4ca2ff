/**
 * Owns the rows of the command contract for pack, unpack, diff and serve; see command-rows.ts.
 */
import type { At } from "./files.ts";
import type { CommandRow, Input } from "./row.ts";

/** A base is any bytes: what is wrong with it shows only in comparison. */
export const ANY_BASE = { "random.img": 0, "zero.img": 0 } as const;
/** Where a command takes a stack, and nothing has to fit: an image, and a layer. @param rest the words after it, for either */
export function stackInputs(rest: readonly string[] = [], restOfLayer = rest): readonly Input[] {
  const takes = { ...ANY_BASE, "empty.img": 0 };
  const [isStack, good] = [true, "base.img"] as const;
  return [
    { title: "STACK", good, isStack, takes, argv: (_, file) => [file, ...rest] },
    {
      title: "STACK, a layer",
      good: "vm.cow",
      isStack,
      argv: (at, file) => [`${at("base.img")},${file}`, ...restOfLayer],
    },
  ];
}

/** One that no other test has. */
const ANY_PORT = ["--listen", "127.0.0.1:0"] as const;

export const pack: CommandRow = {
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

export const unpack: CommandRow = {
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

export const diff: CommandRow = {
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
    { title: "-o", hasNote: true, argv: (at, output) => [at("base.img"), at("changed.img"), "-o", output] },
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

const bySocket = (at: At): readonly string[] => ["--socket", at("nbd.sock")];

/** An image of no bytes is one, too. */
const ANY_EXPORT = { ...ANY_BASE, "empty.img": 0 } as const;

export const serve: CommandRow = {
  runs: [
    { title: "a cowfile", argv: (at) => [at("base.img"), at("vm.cow"), ...bySocket(at)] },
    { title: "a base", argv: (at) => [at("base.img"), ...bySocket(at)], readOnly: true },
    {
      title: "two layers, for reading",
      argv: (at) => [at("base.img"), at("vm.cow"), at("top.cow"), "--read-only", ...bySocket(at)],
      readOnly: true,
    },
    {
      title: "a pack under a throw-away layer",
      argv: (at) => [at("base.img"), at("gzip.pack"), "--ephemeral", ...bySocket(at)],
      readOnly: true,
    },
    {
      title: "several, on TCP",
      argv: (at) => ["--export", `a=${at("base.img")},${at("vm.cow")}`, "--export", `b=${at("base.img")}`, ...ANY_PORT],
    },
    { title: "a dirty one", argv: (at) => [at("base.img"), at("dirty.cow"), "--repair", ...bySocket(at)] },
  ],
  inputs: [
    {
      title: "RDOFILE",
      good: "base.img",
      isStack: true,
      takes: ANY_EXPORT,
      argv: (at, file) => [file, ...bySocket(at)],
    },
    { title: "COWFILES", good: "vm.cow", argv: (at, file) => [at("base.img"), file, ...bySocket(at)] },
    {
      title: "COWFILES, for reading",
      good: "vm.cow",
      argv: (at, file) => [at("base.img"), file, "--read-only", ...bySocket(at)],
    },
    {
      title: "--export",
      good: "base.img",
      isStack: true,
      takes: ANY_EXPORT,
      argv: (at, file) => ["--export", `a=${file}`, ...bySocket(at)],
    },
  ],
  outputs: [],
  collisions: [],
  stays: (at) => at("nbd.sock"),
};
