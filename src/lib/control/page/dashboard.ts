/**
 * Owns the page's server: where it listens, by which names it may be known, its token, and its end. Loopback is plain HTTP;
 * any other address is HTTPS with the server's certificate, or is refused.
 */
import { randomBytes, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Server } from "node:http";
import type { Socket } from "node:net";
import { isIP } from "node:net";
import { join } from "node:path";
import { isLoopback, type Listener, listenTcp } from "../../nbd/server/listeners.ts";
import { TlsConfig, type TlsRequest } from "../../nbd/server/tls-config.ts";
import type { Control } from "../control.ts";
import { createAdaptorServer } from "../vendor.ts";
import type { DashboardAddress } from "./address.ts";
import type { Origin } from "./guard.ts";
import { pageApp } from "./page-app.ts";

const LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"];
const SOCKETS_AT_MOST = 128;
/** A socket without a byte for so long is closed; the page's data is sent once a second. */
const IDLE_MS = 30_000;
const TOKEN_BYTES = 24;

export class Dashboard {
  /** Without a token. */
  readonly url: string;
  /** Who has it may use the page's buttons. */
  readonly token: string;
  readonly #http: Server;
  readonly #listener: Listener;
  readonly #over: AbortController;

  private constructor(url: string, token: string, http: Server, listener: Listener, over: AbortController) {
    this.url = url;
    this.token = token;
    this.#http = http;
    this.#listener = listener;
    this.#over = over;
  }

  /** @throws CowError `io` (address in use); `usage`; as TlsConfig */
  static async open(
    control: Control,
    { host, port }: DashboardAddress,
    tls: TlsRequest | undefined,
  ): Promise<Dashboard> {
    const config = isLoopback(host) || !tls ? undefined : new TlsConfig(tls);
    const token = randomBytes(TOKEN_BYTES).toString("base64url");
    const sockets = new Set<Socket>();
    let http: Server | undefined;
    const accept = (socket: Socket): void => {
      socket.on("error", () => undefined);
      if (!http || sockets.size >= SOCKETS_AT_MOST) {
        socket.destroy();
        return;
      }
      sockets.add(socket);
      socket.once("close", () => sockets.delete(socket));
      socket.setTimeout(IDLE_MS, () => socket.destroy());
      const server = http;
      if (!config) server.emit("connection", socket);
      else
        config.upgrade(socket).then(
          (secure) =>
            server.emit(
              "connection",
              secure.on("error", () => undefined),
            ),
          () => socket.destroy(),
        );
    };
    const listener = await listenTcp(host, port, accept);
    const bound = listener.at.kind === "tcp" ? listener.at.port : port;
    const scheme = config ? "https" : "http";
    const isOwnHost = config ? namesOf(host, tls?.certificates ?? "") : namesOfLoopback(host);
    const origin: Origin = { scheme, isOwnHost, port: bound };
    const over = new AbortController();
    http = createAdaptorServer({ fetch: pageApp(control, token, origin, over.signal).fetch }) as Server;
    // Connections are given to it: it does not close idle ones by itself.
    http.keepAliveTimeout = IDLE_MS;
    return new Dashboard(`${scheme}://${inUrl(host)}:${bound}/`, token, http, listener, over);
  }

  /** Ends every page's stream, and listens no more. */
  close(): void {
    this.#listener.close();
    this.#over.abort();
    this.#http.close();
    setTimeout(() => this.#http.closeAllConnections(), 500).unref();
  }
}

function inUrl(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}

function namesOfLoopback(host: string): Origin["isOwnHost"] {
  const names = new Set([...LOOPBACK_NAMES, inUrl(host).toLowerCase()]);
  return (name) => names.has(name);
}

/** The names in the certificate: a browser accepts no others. */
function namesOf(host: string, certificates: string): Origin["isOwnHost"] {
  const certificate = new X509Certificate(readFileSync(join(certificates, "server-cert.pem")));
  return (name) => {
    if (name === inUrl(host).toLowerCase()) return true;
    const bare = name.replace(/^\[(.*)\]$/, "$1");
    return (isIP(bare) > 0 ? certificate.checkIP(bare) : certificate.checkHost(bare)) !== undefined;
  };
}
