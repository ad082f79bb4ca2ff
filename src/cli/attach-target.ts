/**
 * Owns what users name when they attach: a URI, the unix socket of a server, or the name of an export of a running server.
 */
import { resolve } from "node:path";
import { nodeStorage } from "../lib/device/node-storage.ts";
import { CowError } from "../lib/errors.ts";
import { formatNbdUri, isNbdUri, parseNbdUri } from "../lib/protocol/uri.ts";

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
  const { connect } = await import("../lib/control/client.ts");
  const { uri, more_uris } = await (await connect({ server })).show(target);
  const uris = [uri, ...more_uris].filter((each) => each !== "");
  const [first] = uris;
  if (first === undefined)
    throw new CowError("unsuitable", `the server listens nowhere, so that nothing can be attached to "${target}"`);
  // The kernel's client does no TLS.
  return uris.find((each) => parseNbdUri(each).tls === undefined) ?? first;
}
