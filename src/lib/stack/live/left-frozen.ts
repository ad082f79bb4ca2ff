/**
 * Owns taking up a frozen layer that a killed server left while it settled it: its journal says what is missing in it.
 */
import type { Storage } from "../../device/storage.ts";
import { CowError } from "../../errors.ts";
import { isDirty } from "../../formats/cowfile/head.ts";
import { cowfileFormat } from "../../formats/cowfile/index.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import { detectFormat } from "../../formats/registry.ts";
import type { StackPart } from "../part.ts";
import { type OpenCowfileOptions, WritableCowfile } from "./open-cowfile.ts";

/**
 * Takes up a layer that is dirty, wherever it is in its stack. One that another stack file shares, and whose server has it
 * open, is left to that.
 *
 * @throws CowError as WritableCowfile.open, `locked`
 */
export function takeUpLeft(storage: Storage, { path, listed }: StackPart, options: OpenCowfileOptions): void {
  if (!isLeftDirty(storage, path)) return;
  try {
    const device = storage.open(path, { writable: true, lock: "exclusive" });
    try {
      WritableCowfile.open(storage, path, device, options).close();
    } catch (error) {
      device.close();
      throw error;
    }
  } catch (error) {
    if (listed?.isShared && error instanceof CowError && error.code === "locked") return;
    throw error;
  }
  const message = "was left by a server that was killed while it settled a checkpoint: taken up from its journal";
  options.onNotice?.({ severity: "note", file: path, message });
}

function isLeftDirty(storage: Storage, path: string): boolean {
  try {
    const device = storage.open(path, { lock: "shared" });
    try {
      if (detectFormat(device) !== cowfileFormat) return false;
      return isDirty(new CowfileLayer(device, { allowDirty: true }).opened.head);
    } finally {
      device.close();
    }
  } catch (error) {
    // Opening the stack says what is wrong.
    if (error instanceof CowError) return false;
    throw error;
  }
}
