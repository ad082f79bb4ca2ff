/**
 * Owns checking that a new layer fits a base: the base has whole units, and the image has the base's size.
 */
import { readZeroFilled } from "../bytes/byte-source.ts";
import type { OperationContext } from "../context.ts";
import type { BlockDevice } from "../device/block-device.ts";
import { CowError } from "../errors.ts";
import { BLOCK_BYTES, type CowAbi, DRIVER_BLOCK_LIMIT } from "../formats/cowfile/layout.ts";
import { blocksOf } from "../formats/cowfile/writer.ts";

/**
 * Checks that a cowfile over `base` can show an image, and reports what is special about the base.
 *
 * @param image undefined for an empty cowfile
 * @returns the blocks of the base
 * @throws CowError `unsuitable` as blocksOf, and for an image of another size
 */
export function requireFit(
  base: BlockDevice,
  image: BlockDevice | undefined,
  abi: CowAbi,
  { onNotice }: OperationContext,
): number {
  const { name, sizeBytes } = base;
  const blocks = blocksOf(base, abi);
  // A stack ends at a whole block; the base below may have a partial one.
  const wholeBytes = blocks * BLOCK_BYTES;
  if (image && image.sizeBytes !== sizeBytes && image.sizeBytes !== wholeBytes)
    throw new CowError(
      "unsuitable",
      `is ${image.sizeBytes} bytes long, but ${name} is ${sizeBytes}: a cowfile cannot change the size`,
      { file: image.name },
    );
  if (image) requireSameRest(image, base, wholeBytes);
  if (blocks >= DRIVER_BLOCK_LIMIT) {
    const message = "has 4 TiB or more: cowtool handles that, the original driver's block count wraps";
    onNotice?.({ severity: "warning", file: name, message });
  }
  if (sizeBytes > wholeBytes) {
    const message = `its last ${sizeBytes - wholeBytes} bytes are less than a block, and not part of the image`;
    onNotice?.({ severity: "note", file: name, message });
  }
  return blocks;
}

/**
 * Bytes of an image after its last whole unit are in no layer.
 *
 * @returns how many there are
 * @throws CowError `unsuitable` if they are not as in the base
 */
export function requireSameRest(image: BlockDevice, base: BlockDevice, wholeBytes: number): number {
  const rest = Math.max(0, image.sizeBytes - wholeBytes);
  const [ours, theirs] = [new Uint8Array(rest), new Uint8Array(rest)];
  readZeroFilled(image, ours, wholeBytes);
  readZeroFilled(base, theirs, wholeBytes);
  if (Buffer.compare(ours, theirs) === 0) return rest;
  throw new CowError(
    "unsuitable",
    `differs from ${base.name} in its last ${rest} bytes, which are less than a whole unit and cannot be in a layer`,
    { file: image.name },
  );
}
