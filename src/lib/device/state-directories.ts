/**
 * Owns the state directories: for files of ours that outlive a process and are beside no other file.
 */
import { homedir } from "node:os";
import * as path from "node:path";

const FOR_ALL = "/var/lib/cowtool";

/** Best first: the one for all users if it is writable, else the user's own. */
export function stateDirectories(env: Readonly<Record<string, string | undefined>> = process.env): readonly string[] {
  const chosen = env["COWTOOL_STATE_DIR"];
  if (chosen) return [path.resolve(chosen)];
  const state = env["XDG_STATE_HOME"] || path.join(homedir(), ".local/state");
  return [FOR_ALL, path.join(state, "cowtool")];
}
