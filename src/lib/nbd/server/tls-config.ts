/**
 * Owns a server's TLS settings: certificates from a directory as QEMU's and libnbd's tools lay it out, or a file of
 * pre-shared keys. The cryptography is Node's.
 */
import * as fs from "node:fs";
import * as path from "node:path";
import type { Duplex } from "node:stream";
import * as tls from "node:tls";
import type { OperationContext } from "../../context.ts";
import { CowError, systemError } from "../../errors.ts";

/** Keys for TLS, and whether clients must use it. */
export interface TlsRequest {
  /** A directory with server-cert.pem, server-key.pem, and ca-cert.pem if clients must have certificates, too. */
  readonly certificates?: string | undefined;
  /** Lines of `USER:HEXKEY`. */
  readonly psk?: string | undefined;
}

/** Suites that need no certificate; forward secrecy first. */
const PSK_CIPHERS = [
  "ECDHE-PSK-CHACHA20-POLY1305",
  "ECDHE-PSK-AES256-CBC-SHA384",
  "ECDHE-PSK-AES128-CBC-SHA256",
  "DHE-PSK-AES256-GCM-SHA384",
  "DHE-PSK-AES128-GCM-SHA256",
  "PSK-AES256-GCM-SHA384",
  "PSK-AES128-GCM-SHA256",
];

/** What upgrades a connection to TLS. */
export class TlsConfig {
  readonly #options: tls.TlsOptions;
  readonly #context: tls.SecureContext;

  /** @throws CowError naming the file that is missing or malformed; `usage` for both: certificates would do without a key */
  constructor({ certificates, psk }: TlsRequest, onNotice?: OperationContext["onNotice"]) {
    if (certificates !== undefined && psk !== undefined)
      throw new CowError(
        "usage",
        "certificates and pre-shared keys are two ways to know who a client is: give one of them",
      );
    for (const secret of [psk, certificates && path.join(certificates, "server-key.pem")]) warnIfOpen(secret, onNotice);
    const keys = psk === undefined ? undefined : readKeys(psk);
    const withCertificates = certificates === undefined ? {} : readCertificates(certificates);
    this.#options = {
      minVersion: "TLSv1.2",
      ...withCertificates,
      ...(keys && {
        ciphers: PSK_CIPHERS.join(":"),
        pskCallback: (_socket: unknown, user: string) => keys.get(user) ?? null,
        // Pre-shared keys are known to work with TLS 1.2 in every client.
        maxVersion: "TLSv1.2" as const,
      }),
    };
    try {
      this.#context = tls.createSecureContext(this.#options);
    } catch (cause) {
      throw new CowError("unsuitable", `these certificates can't be used: ${(cause as Error).message}`, {
        file: certificates ?? psk,
        cause,
      });
    }
  }

  /** Puts TLS over a stream on which the client is about to begin it. Rejects if the client can't or may not. */
  upgrade(stream: Duplex): Promise<tls.TLSSocket> {
    // A server that does not listen: Node judges a client's certificate only through a server.
    const server = tls.createServer({ ...this.#options, secureContext: this.#context } as tls.TlsOptions);
    return new Promise((resolve, reject) => {
      server.once("secureConnection", resolve);
      server.once("tlsClientError", reject);
      stream.once("close", () => reject(new Error("the client left during the TLS handshake")));
      server.emit("connection", stream);
    });
  }
}

/** Only a warning: a group may share a key on purpose. */
function warnIfOpen(file: string | undefined, onNotice: OperationContext["onNotice"]): void {
  const stat = file === undefined ? undefined : fs.statSync(file, { throwIfNoEntry: false });
  if (!stat || (stat.mode & 0o044) === 0) return;
  const mode = (stat.mode & 0o777).toString(8).padStart(4, "0");
  const message = `other users can read this secret key (mode ${mode}); chmod 600 keeps it to you`;
  onNotice?.({ severity: "warning", file, message });
}

function readFile(file: string): Buffer {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    throw systemError(error, file, "cannot read");
  }
}

function readCertificates(directory: string): tls.TlsOptions {
  const file = (name: string): string => path.join(directory, name);
  const options = { cert: readFile(file("server-cert.pem")), key: readFile(file("server-key.pem")) };
  if (!fs.existsSync(file("ca-cert.pem"))) return options;
  return { ...options, ca: readFile(file("ca-cert.pem")), requestCert: true, rejectUnauthorized: true };
}

function readKeys(file: string): ReadonlyMap<string, Buffer> {
  const keys = new Map<string, Buffer>();
  for (const [i, line] of readFile(file).toString("utf8").split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const colon = line.lastIndexOf(":");
    const [user, hex] = [line.slice(0, colon), line.slice(colon + 1).trim()];
    if (colon < 1 || !/^([0-9a-f]{2})+$/i.test(hex))
      throw new CowError("unsuitable", `line ${i + 1} is not USER:HEXKEY`, { file });
    keys.set(user, Buffer.from(hex, "hex"));
  }
  if (keys.size === 0) throw new CowError("unsuitable", "holds no keys", { file });
  return keys;
}
