/**
 * Owns what users name when they attach: a URI, the unix socket of a server, or the name of an export of a running server.
 */
import { resolve } from "node:path";
import { nodeStorage } from "../lib/device/node-storage.ts";
import { CowError } from "../lib/errors.ts";
import { formatNbdUri, isNbdUri } from "../lib/protocol/uri.ts";

/** @returns the URI @throws CowError `usage`, `not-found` */
export async function attachTarget(
  target: string,
  { name, server }: { readonly name: string | undefined; readonly server: string | undefined },
): Promise<string> {
  const isSocket = !isNbdUri(target) && target.includes("/") && nodeStorage.facts(target)?.kind === "other";
  if (name !== undefined && !isSocket)
    throw new CowError("usage", "--export goes with the unix socket of a server", { file: target });
  if (isNbdUri(target)) return target;
  if (isSocket)
    return formatNbdUri({
      address: { kind: "unix", path: resolve(target) },
      exportName: name ?? "",
      tls: undefined,
    });
  if (target.includes("/")) throw new CowError("not-found", "no such file or directory", { file: target });
  throw new CowError("not-found", `no running server has the export "${target}"${server ? ` (${server})` : ""}`, {
    hints: ["the URI that `cowtool serve` printed names it, too"],
  });
}
