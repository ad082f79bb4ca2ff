/**
 * Owns opening one part of a stack: its files with their locks, its format, and the options for the format.
 */
import * as path from "node:path";
import type { ByteSource, ByteTarget } from "../bytes/byte-source.ts";
import type { BlockDevice } from "../device/block-device.ts";
import type { OpenOptions, Storage } from "../device/storage.ts";
import { CowError, shellWord } from "../errors.ts";
import type { Layer, LayerFormat, PartOptions } from "../formats/format.ts";
import { detectFormat, headOf, requireFormat } from "../formats/registry.ts";
import { isNbdUri } from "../protocol/uri.ts";
import { ImageDevice } from "./image-device.ts";
import type { StackPart } from "./part.ts";
import { looksLikeStackFile, MAX_STACK_FILE_BYTES } from "./stack-document.ts";

/** The most files that one part may name, directly or through other files: a limit for hostile tables. */
const MAX_COMPANIONS = 1024;

/** A part whose files are open. */
export interface OpenPart {
  readonly part: StackPart;
  /** Its own file. */
  readonly file: BlockDevice;
  /** The options for its format, without `backing`. */
  readonly options: PartOptions;
  /** Every path that was opened for it so far, beginning with its own file's. */
  readonly paths: readonly string[];
}

/** How the files of a part are opened; `keep` receives each of them and closes it. */
export interface PartOpener {
  readonly storage: Storage;
  readonly how: OpenOptions;
  keep(device: BlockDevice): void;
}

/**
 * Opens the files that a part names. Files named in its own file are opened, with the same lock, when its format asks.
 *
 * @throws CowError `not-found`, `locked`, `permission`, `usage`, `io`
 */
export function openPart(part: StackPart, { storage, how, keep }: PartOpener): OpenPart {
  const paths: string[] = [];
  const open = (name: string): BlockDevice => {
    const device = openListed(storage, name, how, part);
    keep(device);
    paths.push(name);
    return device;
  };
  const file = open(part.path);
  if (part.format === undefined) refuseStackFile(file, part.path);
  const opened = new Map<string, BlockDevice>();
  const companion = (name: string): BlockDevice => {
    if (isNbdUri(name))
      throw new CowError("unsupported", `names "${name}": only local files are opened by such names`, {
        file: part.path,
      });
    const resolved = path.isAbsolute(name) ? name : path.join(path.dirname(part.path), name);
    const known = opened.get(resolved);
    if (known) return known;
    if (opened.size >= MAX_COMPANIONS)
      throw new CowError("unsupported", `names more than ${MAX_COMPANIONS} files`, { file: part.path });
    const device = open(resolved);
    opened.set(resolved, device);
    return device;
  };
  const options: PartOptions = {
    settings: part.settings,
    more: part.more.map(open),
    companions: { open: companion },
  };
  return { part, file, options, paths };
}

/** @throws CowError as Storage.open: if a stack file names it, that is said */
function openListed(storage: Storage, name: string, how: OpenOptions, { listed }: StackPart): BlockDevice {
  try {
    return storage.open(name, how);
  } catch (error) {
    if (!listed || !(error instanceof CowError) || error.code === "locked") throw error;
    const { code, message, file, details, hints, cause } = error;
    const more = `the stack file ${shellWord(listed.by)} names it`;
    throw new CowError(code, message, { file, details, hints: [...hints, more], cause });
  }
}

/** Names in a file are followed only if the user asks for it. @throws CowError `unsuitable` for a stack file */
export function refuseStackFile(file: BlockDevice, name: string): void {
  if (file.sizeBytes > MAX_STACK_FILE_BYTES || !looksLikeStackFile(headOf(file))) return;
  throw new CowError("unsuitable", "is a stack file, whose other files are opened only when asked for", {
    file: name,
    hints: [`${shellWord(`stack:${name}`)} asks for them`],
  });
}

/**
 * The format of a part: the named one, or that of its first bytes.
 *
 * @throws CowError `usage` for raw images, and for formats that must be named
 */
export function formatOfPart({ part, file }: Pick<OpenPart, "part" | "file">): LayerFormat {
  if (part.format === "raw")
    throw new CowError("usage", "is named as a raw image, which is a base and no layer", { file: part.path });
  const format = part.format ?? requireFormat(file);
  if (!part.format && format.mustBeNamed)
    throw new CowError("usage", `looks like a ${format.title}, whose other files are opened only when asked for`, {
      file: part.path,
      hints: [`${format.id}:${shellWord(part.path)} asks for them`],
    });
  return format;
}

/**
 * Opens a part as the bottom of a stack.
 * @throws CowError `unsuitable` if a raw image looks like another format; as openImage
 */
export function openBase(opened: OpenPart): BlockDevice {
  const { part, file } = opened;
  if (part.format === "raw") return file;
  if (part.format === undefined) {
    refuseOtherFormats(file, part.path);
    return file;
  }
  if (!part.format.openImage)
    throw new CowError("usage", `a ${part.format.title} is a layer: it needs a base below it`, {
      file: part.path,
      hints: [`write it as BASE,${shellWord(part.text)}`],
    });
  return new ImageDevice(part.format.openImage(file, { ...opened.options, allowDirty: false }));
}

/**
 * A program that can write to a raw image could make it look like another format, whose names of other files would be
 * followed the next time. So a base is never probed: it is raw, or the user named its format.
 */
function refuseOtherFormats(file: BlockDevice, name: string): void {
  const format = detectFormat(file);
  // A packed file is recognised only by its compression, which any file may have. A disk with a volume group is a disk.
  if (!format || format.isOnDisk || format.mayBePacked?.(headOf(file))) return;
  const hints = [`raw:${shellWord(name)} takes it as an image, byte for byte`];
  if (format.openImage) hints.unshift(`${format.id}:${shellWord(name)} reads it as a ${format.title}`);
  else hints.unshift("the order is base, layer");
  throw new CowError("unsuitable", `looks like a ${format.title}, not like a base`, { file: name, hints });
}

/** Opens a part as a layer. @param scratch as LayerFormat.readable */
export async function openAsLayer(
  opened: OpenPart,
  options: {
    readonly allowDirty: boolean;
    readonly backing?: ByteSource | undefined;
    readonly signal: AbortSignal | undefined;
  },
  scratch: () => ByteTarget,
): Promise<{ readonly layer: Layer; readonly format: LayerFormat }> {
  const format = formatOfPart(opened);
  const source = await format.readable(opened.file, scratch, options.signal);
  return { layer: format.openLayer(source, { ...opened.options, ...options }), format };
}
