/**
 * Owns what a verb of `cowtool ctl` is.
 */
import type { OperationContext } from "../../lib/context.ts";
import type { ControlClient } from "../../lib/control/client.ts";
import type { TableView } from "../render/table.ts";
import type { Text } from "../render/text.ts";

export interface CtlFlags {
  readonly "read-only": boolean;
  readonly ephemeral: boolean;
  readonly repair: boolean;
  readonly force: boolean;
  readonly reserve: string | undefined;
  readonly drain: boolean;
  readonly "no-wait": boolean;
  readonly below: string | undefined;
  readonly iops: string | undefined;
  readonly bandwidth: string | undefined;
  readonly quota: string | undefined;
  readonly exec: string | undefined;
  readonly as: string | undefined;
  readonly note: string | undefined;
  readonly keep: string | undefined;
  readonly discard: boolean;
  readonly cowfile: string | undefined;
  readonly "stack-file": string | undefined;
  readonly into: string | undefined;
}

export interface Asked {
  readonly client: ControlClient;
  readonly args: readonly string[];
  readonly flags: CtlFlags;
  readonly view: TableView;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: OperationContext["onProgress"];
}

export interface Answer {
  readonly result: object;
  readonly render: () => Text | Promise<Text>;
  /** Only says that it was done. */
  readonly isReassurance?: boolean;
}

export interface Verb {
  /** As usage shows its arguments: `NAME [--drain]`. */
  readonly usage: string;
  readonly summary: string;
  readonly args: readonly [least: number, most: number];
  readonly flags: readonly (keyof CtlFlags)[];
  run(asked: Asked): Promise<Answer>;
}
