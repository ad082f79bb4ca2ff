/**
 * Owns the effect of a qcow2 file's features on readers: which are refused, and the messages.
 */
import { CowError } from "../../errors.ts";
import { type Compression, hasIncompatible, type Qcow2Header } from "./header.ts";
import { INCOMPATIBLE } from "./layout.ts";

const KNOWN_BITS = Object.values(INCOMPATIBLE).reduce((bits, bit) => bits | (1n << BigInt(bit)), 0n);
const CRYPT_NAMES: Readonly<Record<number, string>> = { 1: "AES", 2: "LUKS" };
const COMPRESSIONS: readonly Compression[] = ["zlib", "zstd"];

/** The compression of compressed clusters, or undefined if it is unknown. */
export function compressionOf(header: Qcow2Header): Compression | undefined {
  return COMPRESSIONS[header.compressionType];
}

/** The unknown incompatible features of a file, by name, or by number if they have none. */
export function unknownFeatures(header: Qcow2Header): readonly string[] {
  const unknown: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((header.incompatible & ~KNOWN_BITS & (1n << BigInt(bit))) === 0n) continue;
    const name = header.featureNames.get(`0:${bit}`);
    unknown.push(name ? `"${name}" (bit ${bit})` : `bit ${bit}`);
  }
  return unknown;
}

/**
 * @param force read a file that says it is corrupt
 * @throws CowError `unsupported` (encryption, external data, unknown features), `damaged` (marked corrupt)
 */
export function requireReadable(header: Qcow2Header, file: string, force: boolean): void {
  const refuse = (message: string, hint?: string): never => {
    throw new CowError("unsupported", message, { file, hints: hint ? [hint] : [] });
  };
  const unknown = unknownFeatures(header);
  if (unknown.length > 0)
    refuse(
      `has ${unknown.length === 1 ? "an incompatible feature" : "incompatible features"} that cowtool does not know: ${unknown.join(", ")}`,
    );
  if (header.cryptMethod !== 0) {
    const name = CRYPT_NAMES[header.cryptMethod] ?? `method ${header.cryptMethod}`;
    refuse(
      `is encrypted (${name}): cowtool has no way to a key`,
      "`qemu-img convert` can make one that is not encrypted",
    );
  }
  if (hasIncompatible(header, INCOMPATIBLE.externalData)) {
    const name = header.externalDataFile === undefined ? "" : `, ${JSON.stringify(header.externalDataFile)}`;
    refuse(`has its data in another file${name}`, "`qemu-img convert` can make one that holds its data itself");
  }
  if (!compressionOf(header)) refuse(`compresses by method ${header.compressionType}, which cowtool does not know`);
  if (header.compressionType !== 0 && !hasIncompatible(header, INCOMPATIBLE.compression)) {
    throw new CowError("damaged", "names a method of compression, but not the feature that goes with it", { file });
  }
  if (hasIncompatible(header, INCOMPATIBLE.corrupt) && !force) {
    throw new CowError("damaged", "is marked corrupt: QEMU found its tables to contradict each other", {
      file,
      hints: ["`qemu-img check -r all` may repair it", "the setting `force` reads it as it is"],
    });
  }
}
