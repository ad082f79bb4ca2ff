/**
 * Owns running the command of `ctl watch --exec`: by the shell, with what happened in its environment.
 */
import { spawn } from "node:child_process";
import type { EventDocument } from "../../lib/control/documents.ts";
import { CowError, systemError } from "../../lib/errors.ts";

/** @throws CowError `io` if it does not end with 0 */
export function runCommand(command: string, { name = "", free_bytes = 0, below = 0 }: EventDocument): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("/bin/sh", ["-c", command], {
      stdio: ["ignore", 2, 2],
      env: {
        ...process.env,
        COWTOOL_EXPORT: name,
        COWTOOL_FREE_BYTES: String(free_bytes),
        COWTOOL_BELOW: String(below),
      },
    });
    child.once("error", (error) => reject(systemError(error, "/bin/sh", "cannot run it")));
    child.once("close", (status, signal) => {
      if (status === 0) resolve();
      else reject(new CowError("io", `the command ended with ${signal ?? `status ${status}`}: ${command}`));
    });
  });
}
