/**
 * Owns connecting to a server: TCP or Unix, and TLS over it. Knows nothing of NBD.
 */
import { readFileSync } from "node:fs";
import * as net from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import * as tls from "node:tls";
import { CowError, errnoName, systemError } from "../../errors.ts";
import type { NbdAddress, NbdTls } from "../../protocol/uri.ts";
import { ConnectionLost, connectionError } from "./failures.ts";

/** A dead peer is noticed even without requests. */
const KEEP_ALIVE_MS = 30_000;
/** Forward secrecy where both sides have it. TLS 1.3 has no keys of this kind in Node.js. */
const PSK_CIPHERS =
  "ECDHE-PSK-CHACHA20-POLY1305:DHE-PSK-AES256-GCM-SHA384:DHE-PSK-AES128-GCM-SHA256:PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256";

/** @throws ConnectionLost */
export function connectTo(address: NbdAddress, signal: AbortSignal): Promise<net.Socket> {
  const socket =
    address.kind === "unix"
      ? net.connect({ path: address.path, signal })
      : net.connect({ ...address, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS, signal });
  return established(socket, "connect", signal);
}

/** TLS over a connection. @param host the name to look for in the certificate; undefined: any trusted certificate */
export function secure(
  socket: net.Socket,
  options: tls.ConnectionOptions,
  signal: AbortSignal,
): Promise<tls.TLSSocket> {
  const secured = tls.connect({ ...options, socket });
  signal.addEventListener("abort", () => secured.destroy(signal.reason as Error), { once: true });
  return established(secured, "secureConnect", signal);
}

function established<Socket extends net.Socket>(socket: Socket, event: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => {
      socket.destroy();
      reject(signal.aborted ? new ConnectionLost("the server did not answer in time") : connectionError(error));
    };
    const closed = (): void => fail(new ConnectionLost("the server closed the connection"));
    socket.once("error", fail).once("close", closed);
    socket.once(event, () => {
      socket.off("error", fail).off("close", closed);
      // The reader gets the error; no event is needed.
      socket.on("error", () => undefined);
      resolve(socket);
    });
  });
}

/**
 * TLS settings, read from the files that the URI names.
 *
 * @param host the host of the URI, or undefined for a socket of this machine
 * @throws CowError `not-found`, `permission`, `usage`
 */
export function tlsOptions(settings: NbdTls, host: string | undefined): tls.ConnectionOptions {
  const name = settings.hostname ?? host;
  if (settings.pskFile !== undefined) return pskOptions(settings.pskFile, settings.username ?? userInfo().username);
  const common: tls.ConnectionOptions = {
    minVersion: "TLSv1.2",
    rejectUnauthorized: settings.verifyPeer,
    ...(name !== undefined && net.isIP(name) === 0 ? { servername: name } : {}),
    // Without an expected name, any certificate of the authority is accepted.
    checkServerIdentity: (_, certificate) =>
      name === undefined ? undefined : tls.checkServerIdentity(name, certificate),
  };
  const folder = settings.certificates;
  if (folder === undefined) return { ...common, ca: [...tls.rootCertificates, ...tls.getCACertificates("system")] };
  const [ca, cert, key] = ["ca-cert.pem", "client-cert.pem", "client-key.pem"].map((file) =>
    readIfThere(join(folder, file)),
  );
  if (!ca && !cert) throw new CowError("not-found", "holds neither ca-cert.pem nor client-cert.pem", { file: folder });
  return { ...common, ...(ca ? { ca } : {}), ...(cert && key ? { cert, key } : {}) };
}

function pskOptions(file: string, username: string): tls.ConnectionOptions {
  const text = readIfThere(file)?.toString("utf8");
  if (text === undefined) throw new CowError("not-found", "no such file or directory", { file });
  const line = text.split(/\r?\n/).find((candidate) => candidate.startsWith(`${username}:`));
  const hex = line?.slice(username.length + 1).trim() ?? "";
  if (!/^(?:[0-9a-f]{2})+$/i.test(hex)) {
    throw new CowError("usage", `has no line "${username}:" with a hexadecimal key`, {
      file,
      hints: ["name the user with ?tls-username= or as nbds://USER@HOST"],
    });
  }
  return {
    minVersion: "TLSv1.2",
    maxVersion: "TLSv1.2",
    ciphers: PSK_CIPHERS,
    pskCallback: () => ({ psk: Buffer.from(hex, "hex"), identity: username }),
    // Knowing the key is the proof: there is no certificate.
    checkServerIdentity: () => undefined,
  };
}

function readIfThere(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (error) {
    if (errnoName(error) === "ENOENT") return undefined;
    throw systemError(error, file, "cannot read");
  }
}
