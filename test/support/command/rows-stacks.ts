/**
 * Owns the rows of the command contract for stack files, squash, invert, map, rebase, resize and hash; see command-rows.ts.
 */
import { writeFileSync } from "node:fs";
import type { At } from "./files.ts";
import type { CommandRow } from "./row.ts";
import { ANY_BASE, stackInputs } from "./rows-more.ts";

export const squash: CommandRow = {
  runs: [
    { title: "two layers", argv: (at) => [`${at("base.img")},${at("vm.cow")},${at("top.cow")}`, at("new.cow")] },
    {
      title: "the upper one, for another machine",
      argv: (at) => [`${at("base.img")},${at("vm.cow")},${at("top.cow")}`, at("new.cow"), "--from=2", "--abi=be32"],
    },
    { title: "over an old one", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("sibling.cow"), "-f"] },
    { title: "of a stack file", argv: (at) => [stackFile(at, "vm.cow", "top.cow"), ".."] },
  ],
  inputs: [
    {
      title: "STACK, its base",
      good: "base.img",
      isStack: true,
      argv: (at, file) => [`${file},${at("vm.cow")}`, at("new.cow")],
    },
    {
      title: "STACK, a layer of it",
      good: "vm.cow",
      isStack: true,
      argv: (at, file) => [`${at("base.img")},${file}`, at("new.cow")],
    },
  ],
  outputs: [{ title: "COWFILE", hasNote: true, argv: (at, output) => [`${at("base.img")},${at("vm.cow")}`, output] }],
  collisions: [
    {
      title: "COWFILE and the base",
      input: "base.img",
      argv: (at, output) => [`${at("base.img")},${at("vm.cow")}`, output, "-f"],
    },
    {
      title: "COWFILE and a layer",
      input: "vm.cow",
      argv: (at, output) => [`${at("base.img")},${at("vm.cow")}`, output, "-f"],
    },
  ],
  progress: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.cow")],
};

/** Puts a stack file of one layer there, with checkpoints below it if there are more. */
function stackFile(at: At, ...layers: readonly string[]): string {
  const time = "2026-11-29T12:00:00.000Z";
  for (const file of ["base.img", ...layers]) at(file);
  const named = layers.map((file, i) => ({
    file,
    ...(i < layers.length - 1 && { checkpoint: { name: `cp${i}`, time } }),
  }));
  const document = { cowtool_stack: 1, base: { file: "base.img" }, layers: named };
  writeFileSync(at("vm.stack"), JSON.stringify(document));
  return at("vm.stack");
}

/** Its examples name stack files, which must be there. */
const ofStackFile = { needsMore: true, inputs: [], outputs: [], collisions: [] } as const;

export const checkpoint: CommandRow = {
  ...ofStackFile,
  runs: [
    { title: "with a note", argv: (at) => [stackFile(at, "vm.cow"), "--as", "monday", "--note", "a b"] },
    {
      title: "of what is a checkpoint's top",
      argv: (at) => [`stack:${stackFile(at, "vm.cow", "top.cow")}`, "--as", "2"],
    },
  ],
  names: ["stackfile"],
};

export const rollback: CommandRow = {
  ...ofStackFile,
  runs: [
    { title: "to the last", argv: (at) => [stackFile(at, "vm.cow", "top.cow"), "cp0", "-y"] },
    { title: "keeping all", argv: (at) => [stackFile(at, "vm.cow", "top.cow"), "cp0", "--keep", at("old.stack")] },
  ],
  names: ["stackfile", "checkpoint"],
};

export const fork: CommandRow = {
  ...ofStackFile,
  runs: [
    { title: "of a checkpoint", argv: (at) => [`${stackFile(at, "vm.cow", "top.cow")}@cp0`, at("new.stack")] },
    {
      title: "of now",
      argv: (at) => [stackFile(at, "vm.cow"), at("new.stack"), "--cowfile", at("n.cow")],
    },
  ],
  names: ["stackfile", "new"],
};

export const drop: CommandRow = {
  ...ofStackFile,
  runs: [
    { title: "the last", argv: (at) => [stackFile(at, "vm.cow", "top.cow"), "cp0"] },
    { title: "of a stack", argv: (at) => [`stack:${stackFile(at, "vm.cow", "top.cow")}`, "cp0"] },
  ],
  names: ["stackfile", "checkpoint"],
};

export const invert: CommandRow = {
  runs: [
    { title: "a cowfile", argv: (at) => [at("base.img"), at("vm.cow"), "-o", at("new.img"), "--layer", at("new.cow")] },
    {
      title: "the top of a stack, for another machine",
      argv: (at) => [
        `${at("base.img")},${at("vm.cow")}`,
        at("top.cow"),
        "--abi=be64",
        "-o",
        at("new.img"),
        "--layer",
        at("new.cow"),
      ],
    },
  ],
  inputs: [
    {
      title: "BASE",
      good: "base.img",
      isStack: true,
      argv: (at, file) => [file, at("vm.cow"), "-o", at("new.img"), "--layer", at("new.cow")],
    },
    {
      title: "LAYER",
      good: "vm.cow",
      argv: (at, file) => [at("base.img"), file, "-o", at("new.img"), "--layer", at("new.cow")],
    },
  ],
  outputs: [
    {
      title: "-o",
      makes: ["new.cow"],
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-o", output, "--layer", at("new.cow")],
    },
    {
      title: "--layer",
      makes: ["new.img"],
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-o", at("new.img"), "--layer", output],
    },
  ],
  collisions: [
    {
      title: "-o and BASE",
      input: "base.img",
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-f", "-o", output, "--layer", at("new.cow")],
    },
    {
      title: "--layer and LAYER",
      input: "vm.cow",
      argv: (at, output) => [at("base.img"), at("vm.cow"), "-f", "-o", at("new.img"), "--layer", output],
    },
  ],
  progress: (at) => [at("base.img"), at("vm.cow"), "-o", at("new.img"), "--layer", at("new.cow")],
};

export const map: CommandRow = {
  runs: [
    { title: "a stack", argv: (at) => [`${at("base.img")},${at("vm.cow")},${at("top.cow")}`], readOnly: true },
    { title: "an image", argv: (at) => [at("base.img")], readOnly: true },
    { title: "a picture", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, "--svg"], readOnly: true },
    { title: "a stack with a pack", argv: (at) => [`${at("base.img")},${at("gzip.pack")}`], readOnly: true },
  ],
  inputs: stackInputs(),
  outputs: [],
  collisions: [],
};

export const rebase: CommandRow = {
  runs: [
    { title: "to another image", argv: (at) => [at("vm.cow"), "--from", at("base.img"), "--to", at("random.img")] },
    {
      title: "dropping what is equal, dry",
      argv: (at) => [at("vm.cow"), "--from", at("base.img"), "--to", at("changed.img"), "--drop-equal", "-n"],
      readOnly: true,
    },
    {
      title: "from a stack to an image",
      argv: (at) => [at("top.cow"), "--from", `${at("base.img")},${at("vm.cow")}`, "--to", at("base.img")],
    },
    { title: "unsafely", argv: (at) => [at("vm.cow"), "--to", at("changed.img"), "--unsafe"] },
  ],
  inputs: [
    {
      title: "COWFILE",
      good: "vm.cow",
      argv: (at, file) => [file, "--from", at("base.img"), "--to", at("changed.img")],
    },
    {
      title: "--from",
      good: "base.img",
      isStack: true,
      argv: (at, file) => [at("vm.cow"), "-n", "--from", file, "--to", at("changed.img")],
    },
    {
      title: "--to",
      good: "changed.img",
      isStack: true,
      takes: ANY_BASE,
      argv: (at, file) => [at("vm.cow"), "-n", "--from", at("base.img"), "--to", file],
    },
  ],
  outputs: [],
  collisions: [
    {
      title: "COWFILE and --from",
      input: "base.img",
      argv: (at, output) => [output, "--from", at("base.img"), "--to", at("changed.img"), "-f"],
    },
    {
      title: "COWFILE and a layer of --to",
      input: "vm.cow",
      argv: (at, output) => [output, "--from", at("base.img"), "--to", `${at("base.img")},${at("vm.cow")}`, "-f"],
    },
  ],
  foretold: [
    { title: "to another image", argv: (at) => [at("vm.cow"), "--from", at("base.img"), "--to", at("random.img")] },
    {
      title: "dropping what is equal",
      argv: (at) => [at("vm.cow"), "--from", at("base.img"), "--to", at("changed.img"), "--drop-equal"],
    },
    { title: "unsafely", argv: (at) => [at("vm.cow"), "--to", at("changed.img"), "--unsafe"] },
  ],
  progress: (at) => [at("vm.cow"), "--from", at("base.img"), "--to", at("random.img")],
};

export const resize: CommandRow = {
  runs: [
    { title: "larger", argv: (at) => [at("vm.cow"), "64M"] },
    { title: "by some more, dry", argv: (at) => [at("vm.cow"), "+1M", "-n"], readOnly: true },
    { title: "smaller", argv: (at) => [at("vm.cow"), "64k", "--shrink"] },
  ],
  inputs: [{ title: "COWFILE", good: "vm.cow", argv: (_, file) => [file, "64M"] }],
  outputs: [],
  collisions: [],
  foretold: [
    { title: "larger", argv: (at) => [at("vm.cow"), "64M"] },
    { title: "smaller", argv: (at) => [at("vm.cow"), "64k", "--shrink"] },
  ],
  progress: (at) => [at("vm.cow"), "64M"],
};

export const hash: CommandRow = {
  runs: [
    { title: "a stack", argv: (at) => [`${at("base.img")},${at("vm.cow")}`], readOnly: true },
    {
      title: "an image, otherwise",
      argv: (at) => [at("base.img"), "--digest=sha1", "--block-size=4k"],
      readOnly: true,
    },
  ],
  inputs: stackInputs(),
  outputs: [],
  collisions: [],
  progress: (at) => [at("base.img")],
};
