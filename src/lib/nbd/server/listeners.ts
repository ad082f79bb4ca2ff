/**
 * Owns a server's listening sockets: a unix socket that only its owner may use, TCP, sockets passed by systemd.
 */
import * as fs from "node:fs";
import * as net from "node:net";
import { dirname, resolve } from "node:path";
import { CowError, errnoName, systemError } from "../../errors.ts";

export interface Listener {
  /** What was bound, as a person or a URI needs it. */
  readonly at:
    | { readonly kind: "unix"; readonly path: string }
    | { readonly kind: "tcp"; readonly host: string; readonly port: number };
  /** Accepts no more clients; removes a socket that we made. */
  close(): void;
}

/** Only the owner may connect. */
const OWNER_ONLY = 0o177;
const FIRST_HANDED_DOWN = 3;
/** Listening sockets in the kernel's tables: a flag of unix sockets, a state of TCP. */
const UNIX_LISTENS = 0x10000;
const TCP_LISTENS = "0A";
/** Clients that may wait to be accepted; a unix socket refuses further ones. The system may allow less. */
const BACKLOG = 4096;
/** The room in the system's address of a unix socket. */
const PATH_BYTES_AT_MOST = 107;

function makeServer(onSocket: (socket: net.Socket) => void): net.Server {
  // A client that has closed its side may still wait for replies.
  return net.createServer({ allowHalfOpen: true, noDelay: true }, onSocket);
}

function begin(server: net.Server, what: string, listen: () => void): Promise<void> {
  return new Promise((done, reject) => {
    server.once("error", (error) => reject(listenError(error, what)));
    server.once("listening", () => {
      // Too many open files and the like concern one client, not the server.
      server.removeAllListeners("error").on("error", () => undefined);
      done();
    });
    listen();
  });
}

function listenError(error: Error, what: string): CowError {
  if (errnoName(error) === "EADDRINUSE")
    return new CowError("io", "cannot listen: the address is in use", { file: what, cause: error });
  return systemError(error, what, "cannot listen");
}

/** Errors from connecting to a unix socket without a server; a busy server gives EAGAIN. */
const NO_SERVER = new Set(["ECONNREFUSED", "ENOENT"]);

/** Does a server listen on a unix socket, as far as can be told? */
export function isAlive(path: string): Promise<boolean> {
  return new Promise((tell) => {
    const probe = net.connect({ path });
    probe.once("connect", () => {
      probe.destroy();
      tell(true);
    });
    probe.once("error", (error) => tell(!NO_SERVER.has(errnoName(error) ?? "")));
  });
}

/**
 * Listens on a unix socket with mode 0600. The socket of a dead server is replaced.
 *
 * @throws CowError `io` (in use), `exists` (something that is no socket), `permission`, `not-found`
 */
export async function listenUnix(name: string, onSocket: (socket: net.Socket) => void): Promise<Listener> {
  // Clients, which are elsewhere, are told the path.
  const path = resolve(name);
  if (Buffer.byteLength(path) > PATH_BYTES_AT_MOST)
    throw new CowError("usage", `a socket's path has at most ${PATH_BYTES_AT_MOST} bytes`, { file: name });
  if (!fs.existsSync(dirname(path)))
    throw new CowError("not-found", "cannot listen: there is no such directory", { file: name });
  const there = fs.lstatSync(path, { throwIfNoEntry: false });
  if (there) {
    if (!there.isSocket()) throw new CowError("exists", "already exists, and is not a socket", { file: path });
    const isOther = async (): Promise<boolean> =>
      (await isAlive(path)) || fs.lstatSync(path, { throwIfNoEntry: false })?.ino !== there.ino;
    if (await isOther()) throw new CowError("io", "cannot listen: the address is in use", { file: path });
    fs.unlinkSync(path);
  }
  const server = makeServer(onSocket);
  await begin(server, path, () => {
    // The socket appears with these rights: there is no moment in which others could connect.
    const before = process.umask(OWNER_ONLY);
    try {
      server.listen({ path, backlog: BACKLOG });
    } finally {
      process.umask(before);
    }
  });
  return { at: { kind: "unix", path }, close: () => void server.close() };
}

/** Listens on TCP; port 0 picks a free one. @throws CowError `io`, `permission` */
export async function listenTcp(host: string, port: number, onSocket: (socket: net.Socket) => void): Promise<Listener> {
  const server = makeServer(onSocket);
  await begin(server, `${host}:${port}`, () => server.listen({ host, port, backlog: BACKLOG }));
  const address = server.address() as net.AddressInfo;
  return { at: { kind: "tcp", host, port: address.port }, close: () => void server.close() };
}

/**
 * How many sockets the service manager passed to this process; they begin at descriptor 3.
 *
 * @throws CowError `usage` if that is not true: other descriptors would be taken for sockets
 */
export function handedDown(env: NodeJS.ProcessEnv): number {
  if (Number(env["LISTEN_PID"]) !== process.pid) return 0;
  const text = env["LISTEN_FDS"] ?? "";
  if (!/^\d+$/.test(text)) throw new CowError("usage", `LISTEN_FDS is not a number of sockets: "${text}"`);
  const count = Number(text);
  for (let fd = FIRST_HANDED_DOWN; fd < FIRST_HANDED_DOWN + count; fd++) {
    if (isListening(fd)) continue;
    throw new CowError("usage", `LISTEN_FDS says ${text}, but descriptor ${fd} is not a socket that listens`, {
      hints: ["systemd sets LISTEN_FDS and LISTEN_PID; --socket or --listen say where to listen without it"],
    });
  }
  return count;
}

/** Without the kernel's tables any socket is assumed to listen. */
function isListening(fd: number): boolean {
  try {
    if (!fs.fstatSync(fd).isSocket()) return false;
  } catch {
    return false;
  }
  const inode = inodeOf(fd);
  if (inode === undefined) return true;
  const tables = [
    ["/proc/net/unix", 6, (words: readonly string[]) => (Number.parseInt(words[3] ?? "", 16) & UNIX_LISTENS) !== 0],
    ["/proc/net/tcp", 9, (words: readonly string[]) => words[3] === TCP_LISTENS],
    ["/proc/net/tcp6", 9, (words: readonly string[]) => words[3] === TCP_LISTENS],
  ] as const;
  for (const [table, column, listens] of tables) {
    const words = lineOf(table, column, inode);
    if (words) return listens(words);
  }
  return false;
}

/** A socket's number in the kernel's tables; undefined if unknown. */
function inodeOf(fd: number): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  } catch {
    return undefined;
  }
}

/** The words of a socket's line in one of the kernel's tables. */
function lineOf(table: string, column: number, inode: string): readonly string[] | undefined {
  try {
    const lines = fs.readFileSync(table, "utf8").split("\n");
    return lines.map((text) => text.trim().split(/\s+/)).find((words) => words[column] === inode);
  } catch {
    return undefined;
  }
}

/** Listens on a socket that was handed down. */
export async function listenHandedDown(index: number, onSocket: (socket: net.Socket) => void): Promise<Listener> {
  const server = makeServer(onSocket);
  const fd = FIRST_HANDED_DOWN + index;
  await begin(server, `descriptor ${fd}`, () => server.listen({ fd }));
  const address = server.address();
  const at =
    address !== null && typeof address === "object"
      ? ({ kind: "tcp", host: address.address, port: address.port } as const)
      : ({ kind: "unix", path: pathOfSocket(fd) } as const);
  return { at, close: () => void server.close() };
}

/** The path of a unix socket that another process bound, or "" if unknown. */
function pathOfSocket(fd: number): string {
  const inode = inodeOf(fd);
  const words = inode === undefined ? undefined : lineOf("/proc/net/unix", 6, inode);
  return words?.slice(7).join(" ") ?? "";
}

/** Does this address stay on the machine? */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (net.isIPv4(host) && host.startsWith("127."));
}
