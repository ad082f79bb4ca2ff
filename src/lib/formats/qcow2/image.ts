/**
 * Owns a qcow2 file as a whole image: by itself, or with the backing file that it names, if the user asked for it. Its
 * places say where everything is, so that copies need no buffer.
 */
import { posix } from "node:path";
import type { ByteSource } from "../../bytes/byte-source.ts";
import { CowError, shellWord } from "../../errors.ts";
import type { Companions, OpenLayerOptions, PlacedSource } from "../format.ts";
import { LayeredImage } from "../layered-image.ts";
import type { Qcow2Header } from "./header.ts";
import { Qcow2Layer } from "./layer.ts";

/** As many as a stack may have. */
const MAX_CHAIN = 64;
const BACKING_FORMATS: readonly string[] = ["raw", "qcow2"];

type ImageOptions = Pick<OpenLayerOptions, "settings" | "companions">;

/**
 * Opens it as an image.
 * @throws CowError as Qcow2Layer; `unsuitable` if it needs a backing file that the user did not ask for, or one of
 *   unknown format
 */
export function openQcow2Image(source: ByteSource, options: ImageOptions): PlacedSource {
  return openChain(source, options, 0);
}

function openChain(source: ByteSource, options: ImageOptions, depth: number): PlacedSource {
  const layer = new Qcow2Layer(source, options);
  const { backingFile } = layer.header;
  if (backingFile === undefined) return new Qcow2Image(layer, undefined);
  if (!options.settings?.has("backing")) {
    const quoted = JSON.stringify(backingFile);
    throw new CowError("unsuitable", `is only part of an image: the rest is in its backing file ${quoted}`, {
      file: source.name,
      details: { backing_file: backingFile },
      hints: [
        `\`${shellWord(`qcow2:backing;${source.name}`)}\` opens that, too`,
        "as a layer it goes over whatever a stack has below it: `BASE,FILE`",
      ],
    });
  }
  if (depth === MAX_CHAIN) {
    throw new CowError("damaged", `has more than ${MAX_CHAIN} backing files one below the other, or a circle of them`, {
      file: source.name,
    });
  }
  const name = backingPath(backingFile, source.name);
  const format = backingFormat(layer.header, options, source.name);
  if (!options.companions) {
    throw new CowError("usage", `its backing file ${JSON.stringify(name)} cannot be opened from here`, {
      file: source.name,
    });
  }
  const backing = options.companions.open(name);
  if (format === "raw") return new Qcow2Image(layer, backing);
  const below = { settings: options.settings, companions: seenFrom(options.companions, name) };
  return new Qcow2Image(layer, openChain(backing, below, depth + 1));
}

/** Names in a backing file are relative to that file. */
function seenFrom(companions: Companions, name: string): Companions {
  return { open: (path) => companions.open(posix.isAbsolute(path) ? path : posix.join(posix.dirname(name), path)) };
}

/** QEMU accepts more than files here; we do not. */
function backingPath(name: string, file: string): string {
  if (name.includes("\ufffd"))
    throw new CowError("unsupported", "the name of its backing file is not UTF-8, and cannot be opened", { file });
  const path = name.startsWith("file:") ? name.slice("file:".length) : name;
  if (!/^[A-Za-z][\w+.-]*:/.test(path)) return path;
  throw new CowError("unsupported", `its backing file is not a file, but ${JSON.stringify(name)}`, { file });
}

function backingFormat({ backingFormat: stored }: Qcow2Header, { settings }: ImageOptions, file: string): string {
  const format = stored ?? settings?.get("backing-format");
  if (format === undefined) {
    throw new CowError("unsuitable", "does not say of which format its backing file is, and guessing is not safe", {
      file,
      hints: ["the setting `backing-format=raw` or `backing-format=qcow2` says it"],
    });
  }
  if (BACKING_FORMATS.includes(format)) return format;
  throw new CowError("unsupported", `its backing file is of format ${JSON.stringify(format)}`, {
    file,
    hints: [`the formats taken are ${BACKING_FORMATS.join(" and ")}`],
  });
}

/** A hole in a qcow2 file is a hole, even if its backing file cannot tell holes. */
class Qcow2Image extends LayeredImage {
  override readonly seesHoles = true;
  override readonly allocationUnitBytes: number;

  constructor(layer: Qcow2Layer, backing: ByteSource | undefined) {
    super(layer.name, backing, [layer]);
    this.allocationUnitBytes = layer.granularityBytes;
  }
}
