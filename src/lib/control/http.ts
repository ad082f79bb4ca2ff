/**
 * Owns the control socket's HTTP: routes, their fields, statuses of errors. schemas/openapi.json describes it, and a test
 * holds one against the other.
 */
import { CowError, type ErrorCode } from "../errors.ts";
import type { Control } from "./control.ts";
import { type EventDocument, errorDocument } from "./documents.ts";
import { nameIn } from "./export-name.ts";
import { accessIn, limitIn, numberIn, textIn, truthIn } from "./fields.ts";
import { addHistoryRoutes } from "./history-routes.ts";
import type { Metrics } from "./metrics.ts";
import { bodyOf, isTrue, nameOf, queryOf, refuse, saying, wholeNumber } from "./requests.ts";
import { bodyLimit, type Context, Hono, HTTPException, streamSSE } from "./vendor.ts";

const BODY_BYTES_AT_MOST = 64 << 10;
/** How often free space is looked at for one who waits for it. */
const SPACE_MS = 500;
/** A stream without events says so, so that an end that broke is noticed. */
const KEEP_ALIVE_MS = 15_000;

/** All others are 422: the server has understood, and the images do not allow it. */
const STATUS: Readonly<Partial<Record<ErrorCode, 400 | 403 | 404 | 409 | 500 | 507>>> = {
  usage: 400,
  permission: 403,
  "not-found": 404,
  exists: 409,
  locked: 409,
  interrupted: 409,
  io: 500,
  "no-space": 507,
};

/** The application behind the control socket. */
export function controlApp(control: Control): Hono {
  const app = new Hono();
  let metrics: Metrics | undefined;
  app.use(bodyLimit({ maxSize: BODY_BYTES_AT_MOST, onError: () => refuse("the request is too long") }));
  app.onError(answerError);
  app.notFound((c) => {
    const message = `there is no ${c.req.method} ${c.req.path}`;
    return c.json({ error: { code: "not-found", message, details: {}, hints: ["see schemas/openapi.json"] } }, 404);
  });

  app.get("/v1/server", (c) => c.json(control.server()));
  app.post("/v1/stop", (c) => {
    control.stop();
    return c.json(control.server(), 202);
  });
  app.get("/v1/dashboard", (c) => c.json(control.dashboard));
  app.get("/v1/exports", (c) => c.json(control.list()));
  app.post("/v1/exports", async (c) => {
    const fields = await bodyOf(c, ["name", "stack", "access", "repair", "force", "reserve", "quota"]);
    const added = await control.add(
      saying(() => ({
        name: textIn(fields, "name"),
        stack: textIn(fields, "stack"),
        access: accessIn(fields),
        repair: truthIn(fields, "repair"),
        force: truthIn(fields, "force"),
        reserve: numberIn(fields, "reserve"),
        quota: numberIn(fields, "quota"),
      })),
    );
    return c.json(added, 201);
  });
  app.get("/v1/exports/:name", async (c) => c.json(await control.show(nameOf(c))));
  app.delete("/v1/exports/:name", async (c) => {
    const { force, drain } = queryOf(c, ["force", "drain"]);
    if (isTrue(drain, "drain") && isTrue(force, "force")) refuse("force and drain are two ways: give one of them");
    if (isTrue(drain, "drain")) return c.json(control.drain(nameOf(c)), 202);
    await control.remove(nameOf(c), isTrue(force, "force"));
    return c.body(null, 204);
  });
  app.post("/v1/exports/:name/close", async (c) => c.json(await control.close(nameOf(c))));
  app.post("/v1/exports/:name/reopen", async (c) => {
    const fields = await bodyOf(c, ["access"]);
    return c.json(
      await control.reopen(
        nameOf(c),
        saying(() => accessIn(fields)),
      ),
    );
  });
  app.post("/v1/exports/:name/sync", async (c) => c.json(await control.sync(nameOf(c))));
  app.post("/v1/sync", async (c) => c.json(await control.sync(undefined)));
  app.post("/v1/exports/:name/limit", async (c) => {
    const fields = await bodyOf(c, ["iops", "bandwidth", "quota"]);
    const limits = saying(() => ({
      iops: limitIn(fields, "iops"),
      bandwidth: limitIn(fields, "bandwidth"),
      quota: limitIn(fields, "quota", 0),
    }));
    return c.json(await control.limit(nameOf(c), limits));
  });
  app.get("/v1/exports/:name/stats", (c) => c.json(control.stats(nameOf(c))));
  app.get("/v1/stats", (c) => c.json(control.stats(undefined)));
  app.get("/metrics", async (c) => {
    metrics ??= new (await import("./metrics.ts")).Metrics(control);
    return c.text(await metrics.text(), 200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
  });
  addHistoryRoutes(app, control.history);
  app.get("/v1/jobs", (c) => c.json({ jobs: control.jobs.all }));
  app.get("/v1/jobs/:id", async (c) => {
    const { wait } = queryOf(c, ["wait"]);
    const id = jobIdOf(c);
    return c.json(isTrue(wait, "wait") ? await control.jobs.wait(id, c.req.raw.signal) : control.jobs.show(id));
  });
  app.delete("/v1/jobs/:id", async (c) => c.json(await control.jobs.cancel(jobIdOf(c))));
  app.get("/v1/events", (c) => eventStream(control, c));
  return app;
}

/** An error as an answer. */
export function answerError(error: Error, c: Context): Response {
  if (error instanceof HTTPException) return error.getResponse();
  const known = error instanceof CowError;
  const code = known ? (STATUS[error.code] ?? 422) : 500;
  const message = `internal error: ${error.message} (a bug in cowtool)`;
  return c.json({ error: known ? errorDocument(error) : { code: "internal", message, details: {}, hints: [] } }, code);
}

/** Server-sent events, from now on or after `Last-Event-ID`; with `name` and `below` also one when space falls below. */
function eventStream(control: Control, c: Context): Response | Promise<Response> {
  const { name, below } = queryOf(c, ["name", "below"]);
  const lastId = wholeNumber(c.req.header("Last-Event-ID"), "Last-Event-ID");
  const limit = wholeNumber(below, "below");
  if (limit !== undefined && name === undefined) throw new CowError("usage", "below needs the name of an export");
  const of = name === undefined ? undefined : nameIn(name);
  const free = of === undefined ? undefined : control.freeBytes(of);
  if (limit !== undefined && free === undefined)
    throw new CowError("unsuitable", `what is left for export "${of}" cannot be told`);
  // A stream without a reader would never end.
  if (c.req.method === "HEAD") return c.body(null);
  return streamSSE(c, async (stream) => {
    const gone = new AbortController();
    stream.onAbort(() => gone.abort());
    const alive = setInterval(() => void stream.write(": alive\n\n"), KEEP_ALIVE_MS).unref();
    const send = (event: EventDocument): Promise<void> =>
      stream.writeSSE({ id: String(event.id), event: event.type, data: JSON.stringify(event) });
    const space = of !== undefined && limit !== undefined ? watchSpace(control, of, limit, send) : undefined;
    // A reader knows by it that nothing that comes now is missed.
    await stream.write(": listening\n\n");
    try {
      for await (const event of control.events.listen(gone.signal, lastId)) {
        if (of === undefined || event.name === of || event.type === "ending") await send(event);
      }
    } finally {
      clearInterval(alive);
      clearInterval(space);
    }
  });
}

/** Sends an event each time when space falls below `limit`, also if it is below already; only to who asked for it. */
function watchSpace(
  control: Control,
  name: string,
  limit: number,
  send: (event: EventDocument) => Promise<void>,
): NodeJS.Timeout {
  let isBelow = false;
  const look = (): void => {
    let free: number | undefined;
    try {
      free = control.freeBytes(name);
    } catch {
      // The export has been removed, which is an event of its own.
    }
    const wasBelow = isBelow;
    isBelow = free !== undefined && free < limit;
    if (isBelow && !wasBelow && free !== undefined)
      void send(control.events.stamp({ type: "space-below", name, free_bytes: free, below: limit }));
  };
  setImmediate(look);
  return setInterval(look, SPACE_MS).unref();
}

function jobIdOf(c: Context): number {
  return wholeNumber(c.req.param("id"), "the job's number") ?? 0;
}
