/**
 * Owns what is beside a server that can be controlled: its control socket and its state directory. HTTP is loaded when the
 * first caller connects, so that servers start as fast as without it.
 */
import type { Server } from "node:http";
import type { Socket } from "node:net";
import { resolve } from "node:path";
import type { OperationContext } from "../context.ts";
import { CowError } from "../errors.ts";
import type { Exports } from "../nbd/server/exports.ts";
import { type Listener, listenUnix } from "../nbd/server/listeners.ts";
import type { KeptExport } from "../nbd/server/live-export.ts";
import type { Attendant, RunningServer } from "../nbd/server/serve.ts";
import type { Ready, ServeRequest } from "../nbd/server/serve-request.ts";
import { storageOf } from "../operations/files.ts";
import { Control } from "./control.ts";
import type { EventDocument } from "./documents.ts";
import { EventHub } from "./events.ts";
import { checkDashboard, type DashboardAddress } from "./page/address.ts";
import type { Dashboard } from "./page/dashboard.ts";
import { makeControlDirectory, removeDeadSockets } from "./socket-place.ts";
import { StateFile } from "./state-file.ts";

export interface ControlRequest {
  /** The path of the control socket; undefined for none. */
  readonly control?: string | undefined;
  /** Serve without it where it cannot be made. */
  readonly isControlOptional?: boolean | undefined;
  /** Told what happens while it runs: the events of the control socket. */
  readonly onEvent?: ((event: EventDocument) => void) | undefined;
  /** A directory in which the exports that are added are kept, so that the next server has them again. */
  readonly state?: string | undefined;
  /** Where the page is served; default: there is none. */
  readonly dashboard?: DashboardAddress | undefined;
}

/** How long callers may take to read the last answers. */
const ANSWERS_MS = 300;

type AttendedRequest = ControlRequest & Pick<ServeRequest, "tls">;

export class ControlAttendant implements Attendant {
  readonly #request: AttendedRequest;
  readonly #context: OperationContext;
  readonly #state: StateFile | undefined;
  readonly #sockets = new Set<Socket>();
  readonly #events: EventHub;
  #listener: Listener | undefined;
  #http: Promise<Server> | undefined;
  #control: Control | undefined;
  #dashboard: Dashboard | undefined;

  /** @throws CowError `locked` if another server uses the state directory; `usage` for a page that others could reach */
  constructor(request: AttendedRequest, context: OperationContext) {
    if (request.dashboard) checkDashboard(request.dashboard, request.tls);
    this.#request = request;
    this.#context = context;
    this.#events = new EventHub(request.onEvent);
    if (request.state !== undefined) this.#state = new StateFile(storageOf(context), request.state);
  }

  async restore(exports: Exports): Promise<void> {
    exports.onChange((type, { name, failure }) => {
      this.#events.publish({ type, name, ...(failure && { message: failure.message, file: failure.file }) });
    });
    const state = this.#state;
    if (!state) return;
    const given = new Set(exports.all.map(({ name }) => name));
    // They are kept for a server without such a command line.
    const hidden: KeptExport[] = [];
    for (const kept of state.read()) {
      const { name } = kept.settings;
      if (given.has(name)) {
        hidden.push(kept);
        const message = `export "${name}" is on the command line, too: that of the command line is served`;
        this.#context.onNotice?.({ severity: "warning", file: this.#request.state, message });
        continue;
      }
      await exports.restore(kept);
      const { failure } = exports.get(name);
      if (!failure) continue;
      const message = `export "${name}" is not served: ${failure.message}`;
      this.#context.onNotice?.({ severity: "warning", file: failure.file, message });
    }
    exports.keepWith((kept) => state.write([...hidden, ...kept.filter(({ settings }) => !settings.isGiven)]));
  }

  async start(server: RunningServer): Promise<Partial<Ready>> {
    const { state = null, dashboard } = this.#request;
    this.#events.publish({ type: "serving" });
    const control = await this.#listen();
    if (control === undefined && !dashboard) return {};
    this.#control = new Control(server, storageOf(this.#context), this.#events, {
      control: control ?? "",
      state: state && resolve(state),
    });
    const page = dashboard && (await this.#openPage(this.#control, dashboard));
    return { ...(control !== undefined && { control }), ...(page && { dashboard: page.url }) };
  }

  /** @returns the path of the control socket; undefined for none */
  async #listen(): Promise<string | undefined> {
    const { control: path, isControlOptional = false } = this.#request;
    if (path === undefined || (isControlOptional && !makeControlDirectory(path))) return undefined;
    const waiting = (socket: Socket): void => this.#answer(socket);
    try {
      this.#listener = await listenUnix(path, waiting);
    } catch (error) {
      if (!isControlOptional || !(error instanceof CowError)) throw error;
      const message = `${error.message}: this server has no control socket`;
      this.#context.onNotice?.({ severity: "note", file: error.file, message });
      return undefined;
    }
    void removeDeadSockets();
    return this.#listener.at.kind === "unix" ? this.#listener.at.path : path;
  }

  async #openPage(control: Control, address: DashboardAddress): Promise<Dashboard> {
    const { Dashboard } = await import("./page/dashboard.ts");
    this.#dashboard = await Dashboard.open(control, address, this.#request.tls);
    control.announce(this.#dashboard);
    const message = `the page is at ${this.#dashboard.url}; \`cowtool ctl dashboard\` prints its address with the token`;
    this.#context.onNotice?.({ severity: "note", message });
    return this.#dashboard;
  }

  /** What the server tells its user, as an event. */
  notice(notice: Parameters<NonNullable<OperationContext["onNotice"]>>[0]): void {
    this.#events.publish({ type: "notice", ...notice });
  }

  async stop(): Promise<void> {
    this.#listener?.close();
    this.#dashboard?.close();
    await this.#control?.jobs.end();
    this.#events.end();
    // Answers that are on their way are small: what is not read within a moment is not read. An open connection, also one that
    // asks nothing, would keep the process from ending.
    setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, ANSWERS_MS).unref();
  }

  /** Lets go of the state directory, after all exports were closed. */
  close(): void {
    this.#state?.close();
  }

  #answer(socket: Socket): void {
    const control = this.#control;
    if (!control) {
      socket.destroy();
      return;
    }
    socket.on("error", () => undefined);
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    this.#http ??= openHttp(control);
    this.#http.then(
      (http) => http.emit("connection", socket),
      () => socket.destroy(),
    );
  }
}

async function openHttp(control: Control): Promise<Server> {
  const [{ controlApp }, { createAdaptorServer }] = await Promise.all([import("./http.ts"), import("./vendor.ts")]);
  return createAdaptorServer({ fetch: controlApp(control).fetch }) as Server;
}
