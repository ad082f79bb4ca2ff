/**
 * Owns the client of the control socket: what `cowtool ctl` uses, and programs with `import { connect } from "cowtool"`.
 * Its documents are those of schemas/openapi.json. A request that the server refuses is a CowError with the server's code.
 */
import { CowError, systemError } from "../errors.ts";
import { Caller, failureIn, textOf } from "./caller.ts";
import type {
  AddRequest,
  AllStatsDocument,
  DashboardDocument,
  EventDocument,
  ExportDocument,
  ExportsDocument,
  JobDocument,
  JobsDocument,
  LimitRequest,
  LimitsDocument,
  ServerDocument,
  ShownDocument,
} from "./documents.ts";
import { segmentOf } from "./export-name.ts";
import type {
  CheckpointedDocument,
  CheckpointRequestDocument,
  ForkedDocument,
  ForkRequestDocument,
  RollbackRequestDocument,
  RolledBackDocument,
  SquashRequestDocument,
} from "./history-documents.ts";
import { socketOf, socketsIn } from "./socket-place.ts";

/** How a running server is reached. */
export interface ConnectOptions {
  /** The path of a control socket, or its name in the directory of this user's; default: the only one there. */
  readonly server?: string | undefined;
  readonly env?: NodeJS.ProcessEnv;
}

/** Which events of a server are read. */
export interface EventsOptions {
  /** Only of this export. */
  readonly name?: string | undefined;
  /** An event also each time when its file system has fewer bytes left than this. */
  readonly belowBytes?: number | undefined;
  /** Go on behind this event. */
  readonly lastId?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Finds a running server.
 *
 * @throws CowError `not-found` if none runs; `usage` if there are several and none was named
 */
export async function connect({ server, env }: ConnectOptions = {}): Promise<ControlClient> {
  if (server !== undefined) {
    const client = new ControlClient(socketOf(server, env));
    await client.server();
    return client;
  }
  const found: ControlClient[] = [];
  for (const path of socketsIn(env)) {
    const client = new ControlClient(path);
    if (await client.server().catch(() => undefined)) found.push(client);
  }
  const [only, ...more] = found;
  if (!only)
    throw new CowError("not-found", "no server with a control socket is running", {
      hints: ["`cowtool serve` has one unless it was started with --control none; --server says where it is"],
    });
  if (more.length > 0)
    throw new CowError("usage", `${found.length} servers are running`, {
      hints: [`say which one with --server: ${found.map(({ path }) => path).join(", ")}`],
    });
  return only;
}

/** One server. Every method may throw what the server refuses, and `not-found` where no server listens any more. */
export class ControlClient {
  /** Of its socket. */
  readonly path: string;
  readonly #caller: Caller;

  constructor(path: string) {
    this.path = path;
    this.#caller = new Caller(path);
  }

  server(): Promise<ServerDocument> {
    return this.#caller.json({ method: "GET", path: "/v1/server" });
  }

  /** Where the page is, and its token. */
  dashboard(): Promise<DashboardDocument> {
    return this.#caller.json({ method: "GET", path: "/v1/dashboard" });
  }

  list(): Promise<ExportsDocument> {
    return this.#caller.json({ method: "GET", path: "/v1/exports" });
  }

  show(name: string): Promise<ShownDocument> {
    return this.#caller.json({ method: "GET", path: exportPath(name) });
  }

  /** Returns when clients can use it. */
  add(request: AddRequest): Promise<ExportDocument> {
    return this.#caller.json({ method: "POST", path: "/v1/exports", body: request });
  }

  /** Removes an export. With `force`, clients that use it are hung up on, after what was received has been answered. */
  async remove(name: string, { force = false }: { readonly force?: boolean } = {}): Promise<void> {
    await this.#caller.send({ method: "DELETE", path: `${exportPath(name)}?force=${force}` });
  }

  /** Begins a job that removes the export once its clients have left; no new ones are let in. */
  drain(name: string): Promise<JobDocument> {
    return this.#caller.json({ method: "DELETE", path: `${exportPath(name)}?drain=true` });
  }

  /** @param name default: all exports */
  sync(name?: string): Promise<ExportsDocument> {
    return this.#caller.json({ method: "POST", path: name === undefined ? "/v1/sync" : `${exportPath(name)}/sync` });
  }

  close(name: string): Promise<ExportDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/close` });
  }

  reopen(name: string, options: Pick<AddRequest, "access"> = {}): Promise<ExportDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/reopen`, body: options });
  }

  /** Freezes what exports show now, under a name: one instant for all of them. */
  checkpoint(request: CheckpointRequestDocument): Promise<CheckpointedDocument> {
    return this.#caller.json({ method: "POST", path: "/v1/checkpoints", body: request });
  }

  /** Has an export show a checkpoint again; what was written since goes, or is kept by another stack file. */
  rollback(name: string, request: RollbackRequestDocument): Promise<RolledBackDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/rollback`, body: request });
  }

  /** Adds an export over a checkpoint of another one. Returns when clients can use it. */
  fork(name: string, request: ForkRequestDocument): Promise<ForkedDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/fork`, body: request });
  }

  /** Begins a job that joins frozen layers. */
  squash(name: string, request: SquashRequestDocument = {}): Promise<JobDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/squash`, body: request });
  }

  /** Begins a job that makes base and frozen layers a new base. @param into its file, an absolute name */
  flatten(name: string, into: string): Promise<JobDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/flatten`, body: { into } });
  }

  /** Takes a checkpoint's name away; its layer stays, until a squash joins it with others. */
  async drop(name: string, checkpoint: string): Promise<void> {
    const path = `${exportPath(name)}/checkpoints/${encodeURIComponent(checkpoint)}`;
    await this.#caller.send({ method: "DELETE", path });
  }

  /** @param size in bytes. With `force`, clients are hung up on: they know the old size. */
  grow(name: string, size: number, { force = false }: { readonly force?: boolean } = {}): Promise<ExportDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/grow`, body: { size, force } });
  }

  /** @param name default: all exports */
  stats(name?: string): Promise<AllStatsDocument> {
    return this.#caller.json({ method: "GET", path: name === undefined ? "/v1/stats" : `${exportPath(name)}/stats` });
  }

  /** Changes limits, at once; those that are absent stay. */
  limit(name: string, limits: LimitRequest = {}): Promise<LimitsDocument> {
    return this.#caller.json({ method: "POST", path: `${exportPath(name)}/limit`, body: limits });
  }

  /** In Prometheus' text format. */
  metrics(): Promise<string> {
    return this.#caller.send({ method: "GET", path: "/metrics" });
  }

  jobs(): Promise<JobsDocument> {
    return this.#caller.json({ method: "GET", path: "/v1/jobs" });
  }

  job(id: number): Promise<JobDocument> {
    return this.#caller.json({ method: "GET", path: `/v1/jobs/${id}` });
  }

  /** Waits until a job has ended, or the signal fires. */
  async waitFor(id: number, signal?: AbortSignal): Promise<JobDocument> {
    return this.#caller.json({ method: "GET", path: `/v1/jobs/${id}?wait=true`, signal });
  }

  cancel(id: number): Promise<JobDocument> {
    return this.#caller.json({ method: "DELETE", path: `/v1/jobs/${id}` });
  }

  /** Begins the server's orderly end. */
  stop(): Promise<ServerDocument> {
    return this.#caller.json({ method: "POST", path: "/v1/stop" });
  }

  /** Events from now on, until the server ends or the signal fires. */
  async *events({ name, belowBytes, lastId, signal }: EventsOptions = {}): AsyncGenerator<EventDocument> {
    const query = new URLSearchParams();
    if (name !== undefined) query.set("name", decodeURIComponent(segmentOf(name)));
    if (belowBytes !== undefined) query.set("below", String(belowBytes));
    const headers = lastId === undefined ? {} : { "last-event-id": String(lastId) };
    const response = await this.#caller.open({ method: "GET", path: `/v1/events?${query}`, signal }, headers);
    if (response.statusCode !== 200) throw failureIn(await textOf(response), this.path);
    let rest = "";
    try {
      for await (const bytes of response.setEncoding("utf8")) {
        const parts = `${rest}${bytes}`.split("\n\n");
        rest = parts.pop() ?? "";
        for (const part of parts) {
          const data = part.split("\n").find((line) => line.startsWith("data: "));
          if (data !== undefined) yield JSON.parse(data.slice(6)) as EventDocument;
        }
      }
    } catch (error) {
      if (!signal?.aborted) throw systemError(error, this.path, "the connection to the server broke");
    } finally {
      response.destroy();
    }
  }
}

function exportPath(name: string): string {
  return `/v1/exports/${segmentOf(name)}`;
}
