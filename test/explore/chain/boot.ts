/**
 * Owns the boot id of commands that ask the machine for it: in a life it is the life's.
 */
import { WritableCowfile } from "../../../src/lib/stack/live/open-cowfile.ts";

const openWritable = WritableCowfile.open.bind(WritableCowfile);

export async function withBoot<Result>(boot: Uint8Array, work: () => Promise<Result>): Promise<Result> {
  const open: typeof WritableCowfile.open = (storage, path, device, options) =>
    openWritable(storage, path, device, { ...options, boot });
  Object.assign(WritableCowfile, { open });
  try {
    return await work();
  } finally {
    Object.assign(WritableCowfile, { open: openWritable });
  }
}
