/**
 * Owns how a server treats the base of the cowfile on top: records it if there is no record yet, else reports changes,
 * and refuses to serve it writable over them. A base that cannot be judged never prevents serving. A base is read once,
 * whatever the number of cowfiles over it; what is not needed for the judgement is done while clients are served.
 */
import type { OperationContext, Pace } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { CowfileLayer } from "../../formats/cowfile/layer.ts";
import type { BaseIdentity } from "../../formats/format.ts";
import { detectFormat, requireFormat } from "../../formats/registry.ts";
import { settledTimes, writeSidecar } from "../../notes/sidecar.ts";
import type { LowerStack, LowerStacks } from "../../stack/live/shared-lower.ts";
import { requireBelongs } from "../../stack/open.ts";
import type { StackSpec } from "../../stack/spec.ts";
import { OpenFiles, storageOf } from "../files.ts";
import { askAboutBase, type BaseAnswer } from "./ask.ts";
import { KnownBases } from "./known-bases.ts";
import { sayChanged } from "./merge-guard.ts";
import { noteOrWarn } from "./take.ts";

/** How long the background may keep the event loop, and then rests. */
const WORK_MS = 4;
const REST_MS = 4;

export interface Looking {
  /** Clients will write: a missing record is made, and a changed base is refused. */
  readonly isWritten: boolean;
  /** Nothing is refused. */
  readonly force: boolean;
}

/** What became of the look at one cowfile's base. */
export interface BaseLook {
  /** The cowfile is being served: its record is written in the background, if there is something to write. */
  settle(): void;
  /** The cowfile is about to be closed: what was to be written is. Without settle() nothing is. Never throws a CowError. */
  end(): Promise<void>;
}

interface Judged {
  /** Warns or refuses. */
  readonly say?: () => void;
  /** What is said once the cowfile is served. */
  readonly tell?: (() => void) | undefined;
  /** What is done then, in the background. */
  readonly work?: (() => void | Promise<void>) | undefined;
}

/** The looks of one server. */
export class BaseLooks {
  readonly #lowers: LowerStacks;
  readonly #context: OperationContext;
  readonly #known = new KnownBases();
  readonly #waiting = new Set<Look>();
  #isWorking = false;
  /** Looks whose end is awaited: they are made without pauses. */
  #urgent = 0;

  constructor(lowers: LowerStacks, context: OperationContext) {
    this.#lowers = lowers;
    this.#context = context;
  }

  /**
   * Judges the base of a cowfile, before that is opened to be served.
   *
   * @param spec its topmost layer is the cowfile
   * @throws CowError `wrong-base` for a base that is known to have changed where it shows
   */
  async look(spec: StackSpec, looking: Looking): Promise<BaseLook> {
    const context = this.#context;
    const cowfile = spec.top.path;
    let lower: LowerStack | undefined;
    try {
      lower = await this.#lowers.acquire(spec.below, context);
      const { say, tell, work } = await this.#judge(lower, spec.below, cowfile, looking);
      say?.();
      return new Look(lower, { tell, work }, this.#host);
    } catch (error) {
      lower?.release();
      if (!(error instanceof CowError) || error.code === "wrong-base" || error.code === "interrupted") throw error;
      const message = `${error.message}: whether its base has changed is not known`;
      const tell = (): void => context.onNotice?.({ severity: "note", file: error.file ?? cowfile, message });
      return { settle: tell, end: async () => undefined };
    }
  }

  async #judge(lower: LowerStack, below: StackSpec, cowfile: string, { isWritten, force }: Looking): Promise<Judged> {
    const context = this.#context;
    const storage = storageOf(context);
    const quiet: OperationContext = { ...context, onNotice: undefined };
    return OpenFiles.during(quiet, async (files) => {
      const cow = files.open(cowfile, { lock: "none" });
      // Nothing else identifies its base.
      if (detectFormat(cow)?.id !== "cowfile") return {};
      const identity = await requireFormat(cow).identify(cow, {});
      const { stack } = lower;
      const times = settledTimes(storage, stack.paths);
      const compare = this.#known.comparing(lower, quiet);
      const answer = await askAboutBase(files, { cow, cowfile, stack }, { compare }, quiet);
      const { record, ignored } = answer;
      if (record) {
        // A base that the cowfile was not made for is reported as such.
        if (answer.verdict === "changed")
          await requireBelongs(new CowfileLayer(cow, { allowDirty: true }), stack.device);
        const way = isWritten && !force ? "--force serves it anyway, --read-only without being written" : undefined;
        const say = (): void => sayChanged(answer, { rdofile: below.text, cowfile }, way, context);
        if (!isWritten || !isProven(answer) || times.includes(null)) return { say };
        const note = { ...record, cowfile: identity, files: times };
        const work = (): void => void noteOrWarn(storage, cowfile, context, () => writeSidecar(storage, cowfile, note));
        return { say, work };
      }
      const message = ignored && `is ignored, as ${ignored.why}`;
      const tell = (): void => {
        if (ignored && message) context.onNotice?.({ severity: "note", file: ignored.path, message });
      };
      const mayWrite = isWritten && typeof identity.blocks === "number" && ignored?.mayReplace !== false;
      return { tell, work: mayWrite ? () => this.#record(lower, cowfile, identity) : undefined };
    });
  }

  /** Writes a first record: of the base as it was when it was opened. */
  async #record(lower: LowerStack, cowfile: string, identity: BaseIdentity): Promise<void> {
    const storage = storageOf(this.#context);
    // An end of the server, too, waits for it.
    const background = { storage, pace: this.#pace };
    const onNotice = this.#context.onNotice;
    try {
      const taken = await this.#known.record(lower, Number(identity.blocks), background);
      if (lower.isCurrent()) noteOrWarn(storage, cowfile, this.#context, () => taken.write(cowfile, identity));
      else {
        const message = `has changed, or got another name, since it was opened: the base record of ${cowfile} was not written`;
        onNotice?.({ severity: "note", file: lower.stack.base.name, message });
      }
    } catch (error) {
      if (!(error instanceof CowError)) throw error;
      const message = `${error.message}: the base record of ${cowfile} was not written`;
      onNotice?.({ severity: "note", file: error.file ?? cowfile, message });
    }
  }

  get #pace(): Pace {
    const isUrgent = (): boolean => this.#urgent > 0;
    return {
      everyMs: WORK_MS,
      get restMs(): number {
        return isUrgent() ? 0 : REST_MS;
      },
    };
  }

  readonly #host = {
    queue: (look: Look): void => {
      this.#waiting.add(look);
      if (!this.#isWorking) void this.#work();
    },
    hurry: async (look: Look): Promise<void> => {
      this.#waiting.delete(look);
      this.#urgent++;
      await look.work().finally(() => this.#urgent--);
    },
  };

  async #work(): Promise<void> {
    this.#isWorking = true;
    for (const look of this.#waiting) {
      await new Promise((resolve) => setTimeout(resolve, REST_MS).unref());
      // It may be done by now, as its export was closed.
      if (this.#waiting.delete(look)) await look.work();
    }
    this.#isWorking = false;
  }
}

interface LookHost {
  queue(look: Look): void;
  hurry(look: Look): Promise<void>;
}

class Look implements BaseLook {
  readonly #lower: LowerStack;
  readonly #judged: Judged;
  readonly #host: LookHost;
  #isSettled = false;
  #done: Promise<void> | undefined;

  constructor(lower: LowerStack, judged: Judged, host: LookHost) {
    this.#lower = lower;
    this.#judged = judged;
    this.#host = host;
  }

  settle(): void {
    this.#isSettled = true;
    this.#judged.tell?.();
    this.#host.queue(this);
  }

  end(): Promise<void> {
    return this.#host.hurry(this);
  }

  /** Does what there is to do, once. */
  work(): Promise<void> {
    this.#done ??= this.#doIt().finally(() => this.#lower.release());
    return this.#done;
  }

  async #doIt(): Promise<void> {
    if (this.#isSettled) await this.#judged.work?.();
  }
}

/** A base that was read entirely, and is the same, need not be read next time. */
function isProven({ record, compared, changed, verdict }: BaseAnswer): boolean {
  return compared === "all" && record?.unread.length === 0 && changed.length === 0 && verdict !== "merged";
}
