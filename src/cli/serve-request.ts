/**
 * Owns what the flags of `serve` mean: addresses, named stacks, what contradicts what. Must not open anything.
 */
import { parseSize } from "../lib/bytes/size.ts";
import type { ServeRequest } from "../lib/control/serve.ts";
import { ownSocketPath } from "../lib/control/socket-place.ts";
import { nodeStorage } from "../lib/device/node-storage.ts";
import { CowError } from "../lib/errors.ts";
import type { ExportRequest } from "../lib/nbd/server/serve-request.ts";
import { DEFAULT_PORT } from "../lib/protocol/constants.ts";
import { parsePart } from "../lib/stack/part.ts";
import { StackSpec } from "../lib/stack/spec.ts";
import { standardStream } from "./standard-stream.ts";

export interface ServeFlags {
  readonly socket: string | undefined;
  readonly listen: string | undefined;
  readonly stdio: boolean;
  readonly export: readonly string[] | undefined;
  readonly "read-only": boolean;
  readonly ephemeral: boolean;
  readonly repair: boolean;
  readonly reserve: string | undefined;
  readonly quota: string | undefined;
  readonly "warn-below": string | undefined;
  readonly "tls-certificates": string | undefined;
  readonly "tls-psk": string | undefined;
  readonly tls: string | undefined;
  readonly "max-connections": string | undefined;
  readonly "max-depth": string | undefined;
  readonly "exit-last": boolean;
  readonly "pid-file": string | undefined;
  readonly insecure: boolean;
  readonly force: boolean;
  readonly control: string | undefined;
  readonly state: string | undefined;
  readonly dashboard: string | undefined;
}

const MAX_CONNECTIONS = 65_536;
/** As many layers as a stack file may name. */
const MAX_DEPTH = 1024;
const MAX_PORT = 65_535;
const DASHBOARD_PORT = 8080;

/** @param files the positional arguments: the base of the default export and its layers @throws CowError `usage` */
export function serveRequest(files: readonly string[], flags: ServeFlags): ServeRequest {
  const exports: ExportRequest[] = [];
  if (files.includes("")) throw new CowError("usage", "a file name is empty");
  // A base may itself be a stack, as everywhere; the following files are layers over it.
  const [base, ...layers] = files;
  if (base !== undefined)
    exports.push({ name: "", stack: StackSpec.parse(nodeStorage, base).with(...layers.map(parsePart)) });
  for (const text of flags.export ?? []) exports.push(namedStack(text));
  const mayBeEmpty = (flags.control !== undefined && flags.control !== "none") || flags.state !== undefined;
  if (exports.length === 0 && !mayBeEmpty)
    throw new CowError("usage", "there is nothing to serve: give a base and its cowfiles, or --export NAME=STACK", {
      hints: [
        "with --control or --state it starts without exports: `cowtool ctl add` adds them",
        "see `cowtool serve --help`",
      ],
    });
  const tls = tlsOf(flags);
  return {
    exports,
    socket: flags.socket,
    listen: flags.listen === undefined ? undefined : parseAddress(flags.listen, DEFAULT_PORT),
    readOnly: flags["read-only"],
    ephemeral: flags.ephemeral,
    repair: flags.repair,
    ...(flags.reserve !== undefined && { reserveBytes: parseSize(flags.reserve) }),
    ...(flags.quota !== undefined && { quotaBytes: parseSize(flags.quota) }),
    ...(flags["warn-below"] !== undefined && { warnBelowBytes: parseSize(flags["warn-below"]) }),
    ...(tls && { tls }),
    ...(flags["max-connections"] !== undefined && {
      maxConnections: parseCount("max-connections", flags["max-connections"], MAX_CONNECTIONS),
    }),
    ...(flags["max-depth"] !== undefined && { maxDepth: parseCount("max-depth", flags["max-depth"], MAX_DEPTH) }),
    exitLast: flags["exit-last"],
    pidFile: flags["pid-file"],
    insecure: flags.insecure,
    force: flags.force,
    ...controlOf(flags),
    ...(flags.state !== undefined && { state: flags.state }),
    ...(flags.dashboard !== undefined && { dashboard: parseAddress(flags.dashboard, DASHBOARD_PORT) }),
    // Last of all: as long as it is open, the process does not end.
    stdio: flags.stdio ? standardStream() : undefined,
  };
}

/** Unless told otherwise, in the directory of this user's running programs, if there is one. */
function controlOf({ control, stdio }: ServeFlags): Pick<ServeRequest, "control" | "isControlOptional"> {
  if (control === "none" || (control === undefined && stdio)) return {};
  return control === undefined ? { control: ownSocketPath(), isControlOptional: true } : { control };
}

function namedStack(text: string): ExportRequest {
  const equals = text.indexOf("=");
  if (equals < 0) throw new CowError("usage", `"${text}" is not NAME=STACK`);
  return { name: text.slice(0, equals), stack: text.slice(equals + 1) };
}

/** `HOST:PORT`, `[IPv6]:PORT`, `HOST` or `:PORT`. */
function parseAddress(text: string, defaultPort: number): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^:[\]]*))(?::(\d+))?$/i.exec(text);
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  if (!match || port > MAX_PORT || text === "")
    throw new CowError("usage", `"${text}" is no address: expected HOST:PORT, an IPv6 address in brackets`);
  return { host: match[1] ?? (match[2] || "127.0.0.1"), port };
}

function parseCount(flag: string, text: string, most: number): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || count > most)
    throw new CowError("usage", `--${flag} takes a number from 1 to ${most}, not "${text}"`);
  return count;
}

function tlsOf(flags: ServeFlags): ServeRequest["tls"] {
  const { "tls-certificates": certificates, "tls-psk": psk, tls } = flags;
  if (certificates === undefined && psk === undefined) {
    if (tls !== undefined) throw new CowError("usage", "--tls needs --tls-certificates or --tls-psk");
    return undefined;
  }
  if (certificates !== undefined && psk !== undefined)
    throw new CowError(
      "usage",
      "--tls-psk and --tls-certificates are two ways to know who a client is: give one of them",
      {
        hints: ["with ca-cert.pem in its directory, --tls-certificates asks clients for certificates"],
      },
    );
  return { certificates, psk, mode: tls === "allow" ? "allow" : "require" };
}
