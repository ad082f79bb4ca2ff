/**
 * Owns checking a head's values against each other and against the file: the problems, and the real places of bitmap
 * and data. Allocates nothing, and accepts nothing that makes a reader allocate more than the file justifies.
 */
import { atByte, CowError } from "../../errors.ts";
import type { Problem } from "../format.ts";
import { type CowHead, fingerprint32, formatFingerprint, storedFingerprint } from "./head.ts";
import {
  BITMAP_OFFSET_BYTES,
  BLOCK_BYTES,
  COW_VERSION,
  type CowField,
  FLAG_DIRTY,
  FLAG_PACKED,
  fieldPlace,
  freshFileSize,
  mapSizeFor,
  maxBlocks,
} from "./layout.ts";
import { cowProblem } from "./problems.ts";

/** Where things are in a cowfile whose head is usable. Bytes and blocks as plain numbers, all below 2^53. */
export interface CowGeometry {
  readonly rdoBlocks: number;
  readonly virtualSizeBytes: number;
  /** Computed from the number of blocks; the head's value is ignored. */
  readonly mapSizeBytes: number;
  readonly dataOffsetBytes: number;
}

export interface HeadJudgement {
  readonly problems: readonly Problem[];
  /** Present unless the head is unusable. */
  readonly geometry: CowGeometry | undefined;
}

/**
 * Checks a decoded head.
 *
 * @param fileSizeBytes the length of the file (for a gzip pack: of its payload)
 * @throws CowError `unsupported` for a version above 1
 */
export function judgeHead(head: CowHead, fileSizeBytes: number, file: string): HeadJudgement {
  if (head.version > COW_VERSION) {
    throw new CowError(
      "unsupported",
      `is a cowfile of version ${head.version} at byte 4 (0x4); only version ${COW_VERSION} is known`,
      { file },
    );
  }
  const problems: Problem[] = [];
  const report = (id: Parameters<typeof cowProblem>[0], name: CowField, message: string): void => {
    const where = fieldPlace(head, name);
    problems.push(cowProblem(id, where, `${message}, at ${atByte(where.offset)}`));
  };
  if (head.version < COW_VERSION)
    report("version-low", "version", `the version is ${head.version}, not ${COW_VERSION}`);
  const unknown = head.flags & ~(FLAG_DIRTY | FLAG_PACKED) & 0xffff;
  if (unknown !== 0) report("unknown-flags", "flags", `unknown flag bits 0x${unknown.toString(16)} are set`);
  if (head.fingerprint !== storedFingerprint(head.abi, fingerprint32(head))) {
    report(
      "fingerprint-extension",
      "rdofingerprint",
      `the fingerprint 0x${head.fingerprint.toString(16)} is not ${formatFingerprint(fingerprint32(head))} sign-extended`,
    );
  }
  if (head.rdoBlocks === 0n || head.rdoBlocks > BigInt(maxBlocks(head.abi))) {
    report(
      "block-count",
      "rdoblocks",
      `the number of blocks is ${head.rdoBlocks}, not between 1 and ${maxBlocks(head.abi)}`,
    );
    return { problems, geometry: undefined };
  }
  const rdoBlocks = Number(head.rdoBlocks);
  const mapSizeBytes = mapSizeFor(rdoBlocks);
  const dataOffsetMax = Number.MAX_SAFE_INTEGER - rdoBlocks * BLOCK_BYTES;
  if (head.dataOffset < BigInt(BITMAP_OFFSET_BYTES + mapSizeBytes) || head.dataOffset > BigInt(dataOffsetMax)) {
    const low = head.dataOffset < BigInt(dataOffsetMax);
    const why = low
      ? `inside the bitmap, which ends at ${atByte(BITMAP_OFFSET_BYTES + mapSizeBytes)}`
      : "beyond what can be addressed";
    report("data-offset", "doffset", `the data area would begin at ${atByte(head.dataOffset)}, ${why}`);
    return { problems, geometry: undefined };
  }
  if (head.mapSize !== BigInt(mapSizeBytes)) {
    report(
      "map-size",
      "mapsize",
      `the size of the bitmap is ${head.mapSize} bytes, but ${rdoBlocks} blocks need ${mapSizeBytes}`,
    );
  }
  const needed = freshFileSize(rdoBlocks);
  if (fileSizeBytes < needed) {
    problems.push(
      cowProblem(
        "bitmap-truncated",
        { offset: fileSizeBytes, length: needed - fileSizeBytes },
        `the file ends at ${atByte(fileSizeBytes)}, inside the bitmap, which ends at ${atByte(needed)}`,
      ),
    );
    return { problems, geometry: undefined };
  }
  return {
    problems,
    geometry: {
      rdoBlocks,
      virtualSizeBytes: rdoBlocks * BLOCK_BYTES,
      mapSizeBytes,
      dataOffsetBytes: Number(head.dataOffset),
    },
  };
}

/** The geometry, or the first problem that prevents it as an error. */
export function requireGeometry(judgement: HeadJudgement, file: string): CowGeometry {
  if (judgement.geometry) return judgement.geometry;
  const problem = judgement.problems.find(({ severity, fixable }) => severity === "error" && !fixable);
  throw new CowError(
    problem?.id === "bitmap-truncated" ? "truncated" : "damaged",
    problem?.message ?? "the head is beyond use",
    {
      file,
      details: problem ? { problem: problem.id, offset: problem.offset } : {},
    },
  );
}
