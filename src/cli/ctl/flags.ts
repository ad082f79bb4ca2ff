/**
 * Owns the flags of `cowtool ctl`. Each begins with the verbs that take it.
 */
import { Flags } from "@oclif/core";
import { forceFlag } from "../flags.ts";

export const CTL_FLAGS = {
  server: Flags.string({
    description: "which server: the path of its control socket, or its name",
    helpValue: "NAME",
  }),
  "read-only": Flags.boolean({ default: false, description: "add, reopen: read-only", exclusive: ["ephemeral"] }),
  ephemeral: Flags.boolean({ default: false, description: "add: discard all writes when it is closed" }),
  repair: Flags.boolean({ default: false, description: "add: repair a cowfile that another program left dirty" }),
  reserve: Flags.string({ description: "add: keep at least SIZE free on its file system", helpValue: "SIZE" }),
  force: forceFlag("add: although the base has changed; remove, rollback, grow: although clients use it"),
  drain: Flags.boolean({ default: false, description: "remove: wait until its clients have left" }),
  "no-wait": Flags.boolean({ default: false, description: "remove --drain, squash, flatten: leave it to a job" }),
  iops: Flags.string({ description: "limit: requests per second, or none", helpValue: "N" }),
  bandwidth: Flags.string({ description: "limit: bytes per second, or none", helpValue: "SIZE" }),
  quota: Flags.string({
    description: "add, limit: the most that its cowfile may allocate, or none",
    helpValue: "SIZE",
  }),
  as: Flags.string({ description: "checkpoint: its name", helpValue: "CP" }),
  note: Flags.string({ description: "checkpoint: a remark", helpValue: "TEXT" }),
  keep: Flags.string({ description: "rollback: a stack file for what was there", helpValue: "FILE" }),
  discard: Flags.boolean({ default: false, description: "rollback: later checkpoints may go" }),
  cowfile: Flags.string({ description: "fork: its new cowfile", helpValue: "FILE" }),
  "stack-file": Flags.string({ description: "fork: its new stack file", helpValue: "FILE" }),
  into: Flags.string({ description: "flatten: the new base", helpValue: "FILE" }),
  below: Flags.string({ description: "watch: wait until less than SIZE is free", helpValue: "SIZE" }),
  exec: Flags.string({ description: "watch --below: then run this in a shell", helpValue: "COMMAND" }),
};
