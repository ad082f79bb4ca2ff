/**
 * Owns where notes go that must outlive a process and have no file to lie beside.
 */
import { homedir } from "node:os";
import * as path from "node:path";

const FOR_ALL = "/var/lib/cowtool";

/** Best first: the one for all users where we may write to it, else the user's own. */
export function stateDirectories(env: Readonly<Record<string, string | undefined>> = process.env): readonly string[] {
  const chosen = env["COWTOOL_STATE_DIR"];
  if (chosen) return [path.resolve(chosen)];
  const state = env["XDG_STATE_HOME"] || path.join(homedir(), ".local/state");
  return [FOR_ALL, path.join(state, "cowtool")];
}
