/**
 * Owns the flags that say what a new image is to be: its format, its base and its units. Convert and measure share them.
 */
import { Flags } from "@oclif/core";
import { parseSize } from "../lib/bytes/size.ts";
import { ABI_NAMES, type CowAbi } from "../lib/formats/cowfile/layout.ts";
import { CONVERT_FORMATS, type ConvertFormat, type ConvertRequest } from "../lib/operations/convert/request.ts";
import { stackFlag } from "./flags.ts";

export const outputFormatFlags = () => ({
  to: Flags.custom<ConvertFormat>({
    description: "the format of OUTPUT",
    options: [...CONVERT_FORMATS],
    required: true,
  })(),
  base: stackFlag(
    "OUTPUT holds only the differences from this base (cowfile, dm-snapshot, dm-cow: default the stack's base); in qcow2 it becomes the backing file",
  ),
  "chunk-size": Flags.string({ description: "chunk size of a dm-snapshot store; default 16k", helpValue: "SIZE" }),
  "cluster-size": Flags.string({
    description: "cluster size of a qcow2 file, 512 to 2m; default 64k",
    helpValue: "SIZE",
  }),
  abi: Flags.custom<CowAbi>({ description: "the machine a cowfile is for; default le64", options: [...ABI_NAMES] })(),
});

/** The same as a request. @throws CowError `usage` for a bad size */
export function outputFormatOf(flags: {
  readonly to: ConvertFormat;
  readonly base: string | undefined;
  readonly "chunk-size": string | undefined;
  readonly "cluster-size": string | undefined;
  readonly abi: CowAbi | undefined;
}): Pick<ConvertRequest, "to" | "base" | "abi" | "chunkBytes" | "clusterBytes"> {
  const size = (text: string | undefined): number | undefined => (text === undefined ? undefined : parseSize(text));
  const { to, base, abi } = flags;
  return { to, base, abi, chunkBytes: size(flags["chunk-size"]), clusterBytes: size(flags["cluster-size"]) };
}
