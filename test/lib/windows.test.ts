/**
 * Proves images of more than 512 MiB, whose bitmaps are read in several windows: runs across the border of a window,
 * windows that are holes, many readers in different windows at once.
 */
import { rmSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BitmapReader, WINDOW_BLOCKS } from "../../src/lib/formats/cowfile/bitmap-windows.ts";
import { create, diff, type Extent, MemoryDevice, nodeStorage, openStack, repair, SparseBytes } from "../../src/lib/index.ts";
import { BLOCK, type CowContents, leastDataOffset, mapBytesFor, writeCowfile, writeSparse } from "../support/driver-model.ts";
import { readAt, scratchDirectory, seesHoles } from "../support/scratch.ts";
