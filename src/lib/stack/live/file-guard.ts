/**
 * Owns what the server's own thread says of the files of a served stack that other programs cut short, removed or replaced
 * meanwhile: each once when it is noticed, and at the end what became of the files that were written.
 */
import type { BlockDevice } from "../../device/block-device.ts";
import type { Storage } from "../../device/storage.ts";
import { atByte, CowError } from "../../errors.ts";
import { isWhole } from "./file-watch.ts";

/** A file that is written while it is served. */
export interface WrittenFile {
  readonly device: BlockDevice;
  readonly path: string;
  readonly role: "layer" | "journal";
}

export interface FileTrouble {
  readonly file: string;
  readonly message: string;
}

export class FileGuard {
  readonly #storage: Storage;
  readonly #files: readonly BlockDevice[];
  readonly #written: readonly WrittenFile[];
  readonly #told = new Set<BlockDevice>();
  #loss: CowError | undefined;

  /** @param files all of them but the journal */
  constructor(storage: Storage, files: readonly BlockDevice[], written: readonly WrittenFile[]) {
    this.#storage = storage;
    this.#files = files;
    this.#written = written;
  }

  /** Reports changes since the last check; never throws. */
  *look(): Generator<FileTrouble> {
    for (const file of this.#files) {
      const message = this.#told.has(file) ? undefined : lostText(file);
      if (message === undefined) continue;
      this.#told.add(file);
      const written = this.#written.find(({ device }) => device === file);
      if (written) this.#lose(written, "was cut short while it was served: what was behind its end is lost");
      yield { file: file.name, message };
    }
    for (const written of this.#written) {
      const message = this.#told.has(written.device) ? undefined : this.#lossText(written);
      if (message === undefined) continue;
      this.#told.add(written.device);
      yield { file: nameOf(written), message };
    }
  }

  /** The error with which the server ends although everything could be written; undefined if all files are in place. */
  get loss(): CowError | undefined {
    return this.#loss;
  }

  #lossText(written: WrittenFile): string | undefined {
    const { path, role } = written;
    const { file } = written.device;
    if (!file) return undefined;
    try {
      const isThere = this.#storage.facts(path)?.identity === file.identity;
      if (isThere && (role === "layer" || file.measure() >= file.length.bytes)) return undefined;
      if (role === "journal") {
        const happened = isThere ? "cut short" : "removed or replaced";
        this.#lose(written, `was ${happened} while its cowfile was served: the cowfile itself is complete`);
        return `was ${happened} by another program: until the server has ended in order, what clients have written and not flushed does not survive if the server is killed`;
      }
      if (file.isUnlinked()) {
        this.#lose(written, "was removed while it was served: what clients wrote is lost");
        return `was removed while it is served: what clients write is lost when the server ends, unless you copy /proc/${process.pid}/fd/${file.fd} before`;
      }
      this.#lose(
        written,
        "was moved or replaced while it was served: what clients wrote is in the file that was opened",
      );
      return "was moved or replaced while it is served: what clients write goes to the file that was opened, not to this name";
    } catch (error) {
      // It will be checked again.
      if (error instanceof CowError) return undefined;
      throw error;
    }
  }

  #lose(written: WrittenFile, message: string): void {
    this.#loss ??= new CowError("io", message, { file: nameOf(written) });
  }
}

/** The user's name for it. */
function nameOf({ device, path, role }: WrittenFile): string {
  return role === "layer" ? device.name : path;
}

/** The message for a file that can't be read any more, once that is known. */
function lostText({ file, remote }: BlockDevice): string | undefined {
  if (remote?.isReplaced)
    return "another image is there since the connection was lost: clients get an I/O error where they need it, until it is served anew";
  if (!file || isWhole(file)) return undefined;
  return `was cut short by another program and ends at ${atByte(file.length.foundBytes)}: clients get an I/O error where they need it, until it is served anew`;
}
