/**
 * Owns what requests do that change the image or make it durable, and the note of what a flush has to cover.
 */
import { Command, CommandFlag, WireError } from "../../protocol/constants.ts";
import type { Passage } from "../../stack/live/gate.ts";
import type { LiveImage } from "../../stack/live/image.ts";
import type { RequestMeter } from "../meter/request-meter.ts";
import type { Entered } from "./entered.ts";
import type { Request } from "./request.ts";
import { requireRange, requireWritable } from "./request-rules.ts";
import { Refusal } from "./wire-errors.ts";

export class Changes {
  readonly #image: LiveImage;
  readonly #passage: Passage;
  readonly #meter: RequestMeter;

  constructor({ image, passage }: Entered, meter: RequestMeter) {
    this.#image = image;
    this.#passage = passage;
    this.#meter = meter;
  }

  /** Writes a part of a payload. @throws what writing threw */
  write(payload: Uint8Array, offset: number): void {
    this.#meter.changed(payload.length);
    this.#meter.touched.mark(offset, payload.length, this.#image.sizeBytes);
    this.#image.write(payload, offset);
  }

  /** A request without a payload and without data in its reply. @throws Refusal, and what the image threw */
  perform(request: Request): void {
    switch (request.type) {
      case Command.FLUSH:
        this.#flush();
        break;
      case Command.TRIM:
        requireWritable(this.#image);
        requireRange(request, this.#image, WireError.EINVAL);
        this.#meter.touched.mark(request.offset, request.length, this.#image.sizeBytes);
        this.#image.trim(request.offset, request.length);
        break;
      case Command.CACHE:
        // A hint: the kernel reads ahead by itself.
        requireRange(request, this.#image, WireError.EINVAL);
        break;
      case Command.WRITE_ZEROES:
        this.#zero(request);
        break;
    }
    this.honourFua(request);
  }

  #zero({ offset, length, flags }: Request): void {
    requireWritable(this.#image);
    requireRange({ offset, length }, this.#image, WireError.ENOSPC);
    const mayPunch = (flags & CommandFlag.NO_HOLE) === 0;
    if ((flags & CommandFlag.FAST_ZERO) !== 0 && !(mayPunch && this.#image.zeroesFast))
      throw new Refusal(WireError.ENOTSUP, "zeros would have to be written");
    if (length === 0) return;
    this.#meter.changed(length);
    this.#meter.touched.mark(offset, length, this.#image.sizeBytes);
    this.#image.zero(offset, length, { mayPunch });
  }

  honourFua({ flags }: Request): void {
    if ((flags & CommandFlag.FUA) !== 0 && this.#image.writable) this.#flush();
  }

  #flush(): void {
    this.#image.commit();
    this.#passage.flush(() => this.#meter.flush(() => this.#image.flush()));
  }
}
