/**
 * Owns what the exports of a server have in common: the open stacks below their written layers, and what was found out
 * about the bases.
 */
import { interrupted, makePause, type OperationContext } from "../../context.ts";
import { storageOf } from "../../operations/files.ts";
import { tellingParts } from "../../operations/identity/sampling.ts";
import { BaseLooks } from "../../operations/identity/serve-base.ts";
import { LowerStacks } from "../../stack/live/shared-lower.ts";

export class SharedParts {
  readonly lowers: LowerStacks;
  readonly looks: BaseLooks;

  constructor(context: OperationContext) {
    const pause = makePause(context.signal, () => interrupted("serve", "nothing was served"));
    this.lowers = new LowerStacks(storageOf(context), async (file) => {
      file.remember?.(await tellingParts(file, pause));
    });
    this.looks = new BaseLooks(this.lowers, context);
  }
}
