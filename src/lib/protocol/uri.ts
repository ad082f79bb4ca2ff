/**
 * Owns NBD URIs (doc/uri.md of the NetworkBlockDevice project): parsing and formatting. The export name is free text,
 * so the path is never normalised like a web address.
 */
import { CowError } from "../errors.ts";
import { DEFAULT_PORT, MAX_STRING_BYTES } from "./constants.ts";

/** Where a server listens. */
export type NbdAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  /** A path beginning with NUL is in Linux' abstract namespace. */
  | { readonly kind: "unix"; readonly path: string };

/** How to use TLS; everything is optional. */
export interface NbdTls {
  /** A directory with ca-cert.pem, and if the server wants client certificates client-cert.pem and client-key.pem. */
  readonly certificates?: string | undefined;
  /** A file of lines `user:hexadecimal key`: pre-shared keys instead of certificates. */
  readonly pskFile?: string | undefined;
  /** The user whose key in the file to use. */
  readonly username?: string | undefined;
  /** The name in the server's certificate, if it is not the host's. */
  readonly hostname?: string | undefined;
  /** Is a server without a trusted certificate refused? */
  readonly verifyPeer: boolean;
}

/** An export of a server. */
export interface NbdUri {
  readonly address: NbdAddress;
  /** "" is the server's default export. */
  readonly exportName: string;
  /** undefined: without TLS. With it the connection fails if the server has none. */
  readonly tls: NbdTls | undefined;
}

const LOOKS_LIKE = /^nbds?(?:\+[a-z]+)?:\/\//i;
/** Scheme, authority, path, query: the five parts of RFC 3986 without a fragment, which means nothing here. */
const PARTS = /^([^:]+):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?$/;
const AUTHORITY = /^(?:([^@]*)@)?(?:\[([\w:.%~-]+)\]|([^:[\]]*))(?::(\d*))?$/i;
const TLS_KEYS = ["tls-certificates", "tls-psk-file", "tls-username", "tls-hostname", "tls-verify-peer", "tls-type"];
const MAX_PORT = 65_535;

/** Is this an NBD URI rather than a path? */
export function isNbdUri(text: string): boolean {
  return LOOKS_LIKE.test(text);
}

function refuse(text: string, why: string): never {
  throw new CowError("usage", `is no NBD URI that can be used: ${why}`, {
    file: text,
    hints: ["expected nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH"],
  });
}

/** Decodes `%XX`; `+` stays. */
function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return refuse(text, `"${part}" is not percent-encoded UTF-8`);
  }
}

/** The parameters by name. Unknown ones are refused: the user may have meant one for safety. */
function parametersOf(text: string, query: string, known: readonly string[]): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const item of query.split("&").filter((word) => word !== "")) {
    const equals = item.indexOf("=");
    const key = decode(text, equals === -1 ? item : item.slice(0, equals));
    if (key.startsWith("x-")) continue;
    if (!known.includes(key)) refuse(text, `"${key}" is no parameter here`);
    if (found.has(key)) refuse(text, `"${key}" is given twice`);
    found.set(key, equals === -1 ? "" : decode(text, item.slice(equals + 1)));
  }
  return found;
}

function addressOf(text: string, isUnix: boolean, authority: string, socket: string | undefined): NbdAddress {
  const [, , ipv6, name, port] = AUTHORITY.exec(authority) ?? refuse(text, `"${authority}" is no host and port`);
  if (isUnix) {
    if (ipv6 || name || port !== undefined) refuse(text, "a socket of this machine has no host: write three slashes");
    if (!socket) refuse(text, "?socket=PATH is missing");
    if (socket.lastIndexOf("\0") > 0) refuse(text, "a NUL within the socket's path");
    return { kind: "unix", path: socket };
  }
  const host = decode(text, ipv6 ?? name ?? "");
  if (host === "") refuse(text, "the host is missing");
  const number = port ? Number(port) : DEFAULT_PORT;
  if (number < 1 || number > MAX_PORT) refuse(text, `${number} is no port`);
  return { kind: "tcp", host, port: number };
}

function tlsOf(text: string, parameters: ReadonlyMap<string, string>, user: string | undefined): NbdTls {
  const verify = parameters.get("tls-verify-peer") ?? "1";
  if (verify !== "0" && verify !== "1") refuse(text, "tls-verify-peer is 0 or 1");
  const tls = {
    certificates: parameters.get("tls-certificates"),
    pskFile: parameters.get("tls-psk-file"),
    username: parameters.get("tls-username") ?? user,
    hostname: parameters.get("tls-hostname"),
    verifyPeer: verify === "1",
  };
  if (tls.certificates !== undefined && tls.pskFile !== undefined)
    refuse(text, "tls-certificates and tls-psk-file exclude each other");
  const type = parameters.get("tls-type") ?? (tls.pskFile === undefined ? "x509" : "psk");
  if (type !== "x509" && type !== "psk") refuse(text, `tls-type=${type} is not supported, only x509 and psk`);
  if ((type === "psk") !== (tls.pskFile !== undefined)) refuse(text, "tls-type=psk and tls-psk-file go together");
  return tls;
}

/**
 * Parses an NBD URI: nbd, nbds, nbd+unix and nbds+unix.
 *
 * @throws CowError `usage`
 */
export function parseNbdUri(text: string): NbdUri {
  const [, schemeText = "", authority = "", path = "", query = ""] =
    PARTS.exec(text) ?? refuse(text, "it has not the parts of one");
  const scheme = schemeText.toLowerCase();
  if (!["nbd", "nbds", "nbd+unix", "nbds+unix"].includes(scheme)) refuse(text, `the scheme ${scheme} is not supported`);
  const [isUnix, hasTls] = [scheme.endsWith("+unix"), scheme.startsWith("nbds")];
  const parameters = parametersOf(text, query, [...(isUnix ? ["socket"] : []), ...(hasTls ? TLS_KEYS : [])]);
  const address = addressOf(text, isUnix, authority, parameters.get("socket"));
  const user = authority.includes("@") ? decode(text, authority.slice(0, authority.lastIndexOf("@"))) : undefined;
  const exportName = decode(text, path.replace(/^\//, ""));
  if (exportName.includes("\0")) refuse(text, "a NUL in the export's name");
  if (Buffer.byteLength(exportName) > MAX_STRING_BYTES)
    refuse(text, `the export's name exceeds ${MAX_STRING_BYTES} bytes`);
  return { address, exportName, tls: hasTls ? tlsOf(text, parameters, user) : undefined };
}

/** Percent-encodes characters that a path cannot have; a comma would end a part of a stack. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/%(?:2F|3A|40)/g, decodeURIComponent);
}

/** Writes an NBD URI, always with the port: a server prints it when it is ready. */
export function formatNbdUri({ address, exportName, tls }: NbdUri): string {
  const parameters: (readonly [string, string | undefined])[] = [
    ["socket", address.kind === "unix" ? address.path : undefined],
    ["tls-certificates", tls?.certificates],
    ["tls-psk-file", tls?.pskFile],
    ["tls-username", tls?.username],
    ["tls-hostname", tls?.hostname],
    ["tls-verify-peer", tls?.verifyPeer === false ? "0" : undefined],
  ];
  const query = parameters
    .flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encode(value)}`]))
    .join("&");
  const scheme = `nbd${tls ? "s" : ""}${address.kind === "unix" ? "+unix" : ""}`;
  return `${scheme}://${authorityOf(address)}/${encode(exportName)}${query === "" ? "" : `?${query}`}`;
}

function authorityOf(address: NbdAddress): string {
  if (address.kind === "unix") return "";
  return `${address.host.includes(":") ? `[${address.host}]` : encodeURIComponent(address.host)}:${address.port}`;
}
