/**
 * Owns the table of everything that can be wrong with a cowfile. `check`, `repair`, the manual and the tests are driven
 * by it: a problem that is not here cannot be reported. In the manner of e2fsck's problem.c.
 */
import { findingsFrom, type ProblemSpec } from "../problems.ts";

/** Everything that can be wrong with a cowfile, by id: how bad it is, what it is, and what `repair` does about it. */
export const COW_PROBLEMS = {
  dirty: {
    severity: "error",
    about:
      "The file was not closed: blocks written since the last sync are in the data area, but may not be allocated in the bitmap. In a pack they are lost.",
    fix: "allocates the blocks that hold data, recounts, clears the dirty flag",
  },
  live: {
    severity: "note",
    about:
      "The file was served for writing, and the server did not end in order. Which blocks are allocated is known exactly from the bitmap and the journal beside the file; the data area is not searched. After a restart of the machine everything that a flush covered is there; for the rest see unflushed-data.",
  },
  "journal-unusable": {
    severity: "warning",
    about:
      "The file was served for writing, and the server did not end in order, but the journal beside it is missing, or does not belong to the file as it is: one of the two is an older copy. The data area has to be searched. Zeros written since the last flush cannot be found; the base's blocks are read instead.",
    fix: "searches the data area instead",
  },
  "unflushed-data": {
    severity: "error",
    about:
      "The file was served for writing, the server did not end in order, and the machine was restarted since, or the files were moved to another one. These blocks were written, but no flush covered them. They may not be whole, so they are not shown.",
    fix: "moves them to FILE.cowtool-unflushed, a cowfile over the same base; `cowtool merge BASE,FILE FILE.cowtool-unflushed` brings them back, with --force if FILE has allocated blocks of which the fingerprint is made",
  },
  "version-low": {
    severity: "warning",
    about: "The version is zero or negative. The driver takes that, the original utilities do not.",
    fix: "sets the version to 1",
  },
  "map-size": {
    severity: "error",
    about:
      "The size of the bitmap is not what the number of blocks gives. The driver recomputes it, the original utilities trust it.",
    fix: "writes the size that follows from the number of blocks",
  },
  "data-offset": {
    severity: "error",
    about: "The data area would begin inside the bitmap, or beyond what can be addressed.",
  },
  "block-count": {
    severity: "error",
    about: "The number of blocks is zero, or more than the layout of the head can describe.",
  },
  "bitmap-truncated": {
    severity: "error",
    about: "The file ends inside the bitmap: which blocks were allocated is no longer known.",
  },
  "fingerprint-extension": {
    severity: "warning",
    about:
      "The upper half of the stored fingerprint is not the sign extension of the lower one: the driver would refuse the base.",
    fix: "stores it sign-extended",
  },
  "used-count": {
    severity: "error",
    about:
      "The count of used blocks in the head differs from the bits that are set: the driver refuses that as inconsistent.",
    fix: "recounts",
  },
  "bits-beyond-end": {
    severity: "warning",
    about: "Blocks beyond the end of the base are allocated. The original cowmerge would make the base longer by them.",
    fix: "clears these bits, and reports them",
  },
  "short-block": {
    severity: "error",
    about:
      "The last allocated block is cut short by the end of the file (a full disk, or the driver's misaligned write). Its missing part reads as zeros.",
    fix: "lengthens the file to the end of the block, with zeros",
  },
  "data-lost": {
    severity: "error",
    about:
      "The data of allocated blocks is entirely beyond the end of the file: what was written there is lost. The base's blocks are read instead.",
    fix: "only with --drop-lost: clears these bits, so that the loss is final",
    onlyDropLost: true,
  },
  "unmarked-data": {
    severity: "error",
    about:
      "Blocks hold data, but are not allocated in the bitmap: writes since the last sync, or leftovers of an older file.",
    fix: "allocates them",
  },
  "suspect-zeros": {
    severity: "note",
    about:
      "Blocks of zeros have space in the file, but are not allocated in the bitmap. Zeros written just before a crash look like that, and so does the neighbourhood of other blocks.",
  },
  "unknown-flags": {
    severity: "note",
    about: "Flag bits are set that no known version defines. They are preserved.",
  },
  "head-tail": {
    severity: "note",
    about: "The head block holds something after the head. It is preserved.",
  },
  resized: {
    severity: "note",
    about:
      "A resize gave the image another size than its base has. The original programs take the file only with a base of the image's size: `truncate -s` gives a copy of the base that size.",
  },
  "trailing-data": {
    severity: "note",
    about: "The file is longer than head, bitmap and all blocks together.",
  },
  "pack-truncated": {
    severity: "error",
    about: "A plain pack ends before its last block does.",
  },
  "pack-trailing": {
    severity: "note",
    about:
      "A plain pack continues after its last block, as the original cowpack leaves it when it packs a file into itself.",
  },
  "base-size": {
    severity: "error",
    about: "The given base has another number of blocks.",
  },
  "base-fingerprint": {
    severity: "error",
    about: "The given base has another fingerprint: it is another image, or was changed since.",
  },
  "base-changed": {
    severity: "error",
    about:
      "The given base differs from its base record in blocks that the cowfile has not allocated, or perhaps not. Changes are found in pieces of 4 KiB or more; each is reported with the place where the cowfile has these blocks, or would have them.",
  },
  "base-changed-hidden": {
    severity: "note",
    about:
      "The given base differs from its base record only in blocks that the cowfile has allocated: the change cannot be seen through it.",
  },
  "base-record-ignored": {
    severity: "note",
    about:
      "The base record beside the cowfile belongs to another cowfile or cannot be read: changes of the base are not detected.",
  },
} as const satisfies Record<string, ProblemSpec>;

/** The id of a problem of a cowfile. */
export type CowProblemId = keyof typeof COW_PROBLEMS;

export const cowProblem = findingsFrom(COW_PROBLEMS);
