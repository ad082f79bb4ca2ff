/**
 * Owns where control sockets are: `$XDG_RUNTIME_DIR/cowtool/`, for root `/run/cowtool/`; `COWTOOL_RUNTIME_DIR` says another
 * place, or none if it is empty. A server's own is named by its process id unless it was told another path.
 */
import * as fs from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { CowError, errnoName } from "../errors.ts";
import { isAlive } from "../nbd/server/listeners.ts";

/** The directory may have other sockets, such as those of disks. */
const SUFFIX = ".control";

/** Undefined where there is no directory for files of this user's running programs. */
function controlDirectory(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const chosen = env["COWTOOL_RUNTIME_DIR"];
  if (chosen !== undefined) return chosen === "" ? undefined : resolve(chosen);
  if (process.geteuid?.() === 0) return "/run/cowtool";
  const runtime = env["XDG_RUNTIME_DIR"];
  return runtime && isAbsolute(runtime) ? join(runtime, "cowtool") : undefined;
}

/** Where this server's socket is to be, unless it was told another path. Makes nothing. */
export function ownSocketPath(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const directory = controlDirectory(env);
  return directory && join(directory, `${process.pid}${SUFFIX}`);
}

/** Makes the directory of that socket. @returns false where it cannot be made, or others could put files there */
export function makeControlDirectory(socket: string): boolean {
  const directory = dirname(socket);
  try {
    fs.mkdirSync(directory, { recursive: true, mode: 0o755 });
    const { uid, mode } = fs.lstatSync(directory);
    return uid === process.geteuid?.() && (mode & 0o022) === 0;
  } catch {
    return false;
  }
}

/** Removes what servers that were killed have left in the directory. */
export async function removeDeadSockets(env: NodeJS.ProcessEnv = process.env): Promise<void> {
  for (const path of socketsIn(env)) {
    const pid = Number(basename(path, SUFFIX));
    // A socket that is being made refuses connections for a moment, so its process is looked at, too.
    if (!Number.isSafeInteger(pid) || isRunning(pid) || (await isAlive(path))) continue;
    fs.rmSync(path, { force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoName(error) !== "ESRCH";
  }
}

/** The sockets in the directory, dead ones included. */
export function socketsIn(env: NodeJS.ProcessEnv = process.env): readonly string[] {
  const directory = controlDirectory(env);
  if (directory === undefined) return [];
  try {
    const names = fs.readdirSync(directory).filter((name) => name.endsWith(SUFFIX));
    return names.sort().map((name) => join(directory, name));
  } catch {
    return [];
  }
}

/** @param server a path, or the name of a socket in the directory @throws CowError `usage` without such a directory */
export function socketOf(server: string, env: NodeJS.ProcessEnv = process.env): string {
  if (server.includes("/")) return server;
  const directory = controlDirectory(env);
  if (directory === undefined)
    throw new CowError("usage", "XDG_RUNTIME_DIR is not set: give the path of the control socket", { file: server });
  return join(directory, `${server}${SUFFIX}`);
}
