/**
 * Owns the rows of the command contract for convert and measure; see command-rows.ts.
 */
import type { CommandRow } from "./row.ts";
import { ANY_BASE, stackInputs } from "./rows-more.ts";

const RAW = ["--to", "raw"] as const;
const QCOW2 = ["--to=qcow2"] as const;

export const convert: CommandRow = {
  runs: [
    { title: "to a whole qcow2", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.qcow2"), ...QCOW2] },
    {
      title: "to a qcow2 with a backing file",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.qcow2"), ...QCOW2, "--base", at("base.img")],
    },
    { title: "to raw", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.img"), ...RAW] },
    { title: "to another ABI", argv: (at) => [at("vm.cow"), at("new.cow"), "--to", "cowfile", "--abi", "be64"] },
    {
      title: "to a store",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.store"), "--to", "dm-snapshot"],
    },
    {
      title: "to a dm-cow stack",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.table"), "--to", "dm-cow"],
    },
    {
      title: "of an image that differs, over an old one",
      argv: (at) => [at("changed.img"), at("sibling.cow"), "--to", "cowfile", "--base", at("base.img"), "-f"],
    },
    {
      title: "dry",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.qcow2"), ...QCOW2, "-n"],
      readOnly: true,
    },
  ],
  inputs: [
    {
      title: "STACK",
      good: "base.img",
      isStack: true,
      takes: { ...ANY_BASE, "empty.img": 0 },
      argv: (at, file) => [file, at("new.img"), ...RAW],
    },
    {
      title: "a layer of STACK",
      good: "vm.cow",
      isStack: true,
      argv: (at, file) => [`${at("base.img")},${file}`, at("new.qcow2"), ...QCOW2],
    },
    {
      title: "--base",
      good: "base.img",
      isStack: true,
      takes: ANY_BASE,
      argv: (at, file) => [at("changed.img"), at("new.cow"), "--to", "cowfile", "--base", file],
    },
  ],
  outputs: [{ title: "OUTPUT", argv: (at, output) => [`${at("base.img")},${at("vm.cow")}`, output, ...QCOW2] }],
  collisions: [
    { title: "OUTPUT and STACK", input: "base.img", argv: (at, output) => [at("base.img"), output, ...RAW, "-f"] },
    {
      title: "OUTPUT and a layer of STACK",
      input: "vm.cow",
      argv: (at, output) => [`${at("base.img")},${at("vm.cow")}`, output, ...RAW, "-f"],
    },
    {
      title: "OUTPUT and --base",
      input: "base.img",
      argv: (at, output) => [at("changed.img"), output, "--to", "cowfile", "--base", at("base.img"), "-f"],
    },
  ],
  foretold: [
    { title: "to a whole qcow2", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.qcow2"), ...QCOW2] },
    { title: "to raw", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.img"), ...RAW] },
    { title: "to another ABI", argv: (at) => [at("vm.cow"), at("new.cow"), "--to", "cowfile", "--abi", "be64"] },
    {
      title: "to a store",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.store"), "--to", "dm-snapshot"],
    },
    {
      title: "to a dm-cow stack",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.table"), "--to", "dm-cow"],
    },
  ],
  progress: (at) => [`${at("base.img")},${at("vm.cow")}`, at("new.qcow2"), ...QCOW2],
};

export const measure: CommandRow = {
  runs: [
    { title: "a whole qcow2", argv: (at) => [`${at("base.img")},${at("vm.cow")}`, ...QCOW2], readOnly: true },
    { title: "a cowfile alone", argv: (at) => [at("vm.cow"), "--to=cowfile", "--abi=be32"], readOnly: true },
    {
      title: "a store",
      argv: (at) => [`${at("base.img")},${at("vm.cow")}`, "--to=dm-snapshot", "--chunk-size=4k"],
      readOnly: true,
    },
  ],
  inputs: [
    ...stackInputs(RAW, QCOW2),
    {
      title: "--base",
      good: "base.img",
      isStack: true,
      takes: ANY_BASE,
      argv: (at, file) => [at("changed.img"), "--to", "cowfile", "--base", file],
    },
  ],
  outputs: [],
  collisions: [],
  progress: (at) => [`${at("base.img")},${at("vm.cow")}`, ...QCOW2],
};
