/**
 * Owns the table of the command contract: for each command of src/commands, command lines that must work, and every
 * place where it takes a file. A command without a row here fails the contract. Must not run anything.
 */
import type { CommandRow } from "./row.ts";
import { attach, detach } from "./rows-attach.ts";
import { convert, measure } from "./rows-convert.ts";
import { ANY_BASE, diff, pack, serve, unpack } from "./rows-more.ts";
import { checkpoint, drop, fork, hash, invert, map, rebase, resize, rollback, squash } from "./rows-stacks.ts";

const create: CommandRow = {
  runs: [
    { title: "an empty one", argv: (at) => [at("base.img"), at("new.cow")] },
    { title: "over a stack", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.cow")] },
    {
      title: "from an image, for another machine",
      argv: (at) => [at("base.img"), at("new.cow"), "--from", at("changed.img"), "--abi=be32"],
    },
    { title: "over an old one", argv: (at) => [at("base.img"), at("sibling.cow"), "-f"] },
    {
      title: "a dm-snapshot store",
      argv: (at) => [at("base.img"), at("new.store"), "--format=dm-snapshot", "--from", at("changed.img")],
    },
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
  outputs: [
    { title: "COWFILE", hasNote: true, argv: (at, output) => [at("base.img"), output, "--from", at("changed.img")] },
  ],
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
    { title: "a raw image", argv: (at) => [at("base.img")], readOnly: true },
    { title: "a stack", argv: (at) => [`${at("base.img")},${at("vm.cow")},${at("top.cow")}`, "--map"], readOnly: true },
  ],
  inputs: [
    {
      title: "FILE",
      good: "vm.cow",
      isStack: true,
      takes: { ...ANY_BASE, "empty.img": 0 },
      argv: (_, file) => [file],
    },
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
    { title: "a stack", argv: (at) => [`${at("base.img")},${at("vm.cow")},${at("top.cow")}`], readOnly: true },
    {
      title: "a stack with a dirty layer",
      argv: (at) => [`${at("base.img")},${at("dirty.cow")}`],
      status: 1,
      readOnly: true,
    },
  ],
  inputs: [
    { title: "FILE", good: "vm.cow", isStack: true, argv: (_, file) => [file] },
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
    {
      title: "two siblings",
      argv: (at) => [at("base.img"), at("vm.cow"), at("sibling.cow"), "-o", at("new.cow")],
    },
    {
      title: "two siblings in conflict",
      argv: (at) => [at("base.img"), at("vm.cow"), at("rival.cow"), "-o", at("new.cow")],
      status: 1,
      readOnly: true,
    },
    { title: "into the layer below", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("top.cow"), "-y"] },
  ],
  inputs: [
    { title: "RDOFILE", good: "base.img", isStack: true, argv: (at, file) => [file, at("vm.cow"), "-y"] },
    { title: "COWFILE", good: "vm.cow", argv: (at, file) => [at("base.img"), file, "-y"] },
    { title: "RDOFILE, dry", good: "base.img", isStack: true, argv: (at, file) => [file, at("vm.cow"), "-n"] },
    {
      title: "RDOFILE with -o",
      good: "base.img",
      isStack: true,
      argv: (at, file) => [file, at("vm.cow"), "-o", at("new.img")],
    },
    { title: "COWFILE with -o", good: "vm.cow", argv: (at, file) => [at("base.img"), file, "-o", at("new.img")] },
    {
      title: "SIBLING",
      good: "sibling.cow",
      argv: (at, file) => [at("base.img"), at("vm.cow"), file, "-o", at("new.cow")],
    },
  ],
  outputs: [
    { title: "-o", argv: (at, output) => [at("base.img"), at("vm.cow"), "-o", output] },
    {
      title: "-o of two siblings",
      hasNote: true,
      argv: (at, output) => [at("base.img"), at("vm.cow"), at("sibling.cow"), "-o", output],
    },
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
      title: "-o and SIBLING",
      input: "sibling.cow",
      argv: (at, output) => [at("base.img"), at("vm.cow"), at("sibling.cow"), "-f", "-o", output],
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

/** By the name of the command's file. */
export const COMMAND_ROWS: Readonly<Record<string, CommandRow>> = {
  attach,
  check,
  checkpoint,
  completion: {
    runs: ["bash", "zsh", "fish"].map((shell) => ({ title: `of ${shell}`, argv: () => [shell], readOnly: true })),
    inputs: [],
    outputs: [],
    collisions: [],
  },
  convert,
  create,
  ctl: {
    runs: [],
    inputs: [],
    outputs: [],
    collisions: [],
    needsServer: ["list"],
  },
  detach,
  diff,
  drop,
  fork,
  hash,
  info,
  invert,
  map,
  measure,
  merge,
  pack,
  rebase,
  repair,
  resize,
  rollback,
  serve,
  squash,
  unpack,
  "verify-fingerprint": verifyFingerprint,
};
