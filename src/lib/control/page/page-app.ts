/**
 * Owns the page's HTTP: the page and its files, its data as server-sent events, and the two things that it can do:
 * sync, and checkpoint. No GET changes anything, and no other site is told anything: guard.ts.
 */
import { CowError } from "../../errors.ts";
import type { Control } from "../control.ts";
import { nameIn } from "../export-name.ts";
import { answerError } from "../http.ts";
import { Hono, streamSSE } from "../vendor.ts";
import { pageFile } from "./assets.ts";
import { guard, type Origin, requireToken } from "./guard.ts";
import { PageFeed } from "./page-feed.ts";

/** Pages that are open at a time. */
const STREAMS_AT_MOST = 32;

/** @param isOver fires when the server ends */
export function pageApp(control: Control, token: string, origin: Origin, isOver: AbortSignal): Hono {
  const app = new Hono();
  const feed = new PageFeed(control);
  let streams = 0;
  app.onError(answerError);
  app.use(guard(origin));
  for (const [route, name, type] of [
    ["/", "index.html", "text/html"],
    ["/page.js", "page.js", "text/javascript"],
    ["/page.css", "page.css", "text/css"],
    ["/icon.svg", "icon.svg", "image/svg+xml"],
  ] as const)
    app.get(route, (c) => c.body(pageFile(name), 200, { "content-type": `${type}; charset=utf-8` }));
  app.get("/data", (c) => {
    const name = c.req.query("name");
    if (streams >= STREAMS_AT_MOST)
      throw new CowError("locked", `${STREAMS_AT_MOST} pages are open already: close one of them`);
    streams++;
    return streamSSE(c, async (stream) => {
      const gone = new AbortController();
      stream.onAbort(() => gone.abort());
      const signal = AbortSignal.any([gone.signal, isOver]);
      try {
        // A page that does not read is not written to: the next document is made when it has this one.
        for await (const document of feed.watch(name === undefined ? undefined : nameIn(name), signal))
          await stream.writeSSE({ data: JSON.stringify(document) });
      } finally {
        streams--;
      }
    });
  });
  app.post("/sync", async (c) => {
    requireToken(c, token);
    const name = c.req.query("name");
    return c.json(await control.sync(name === undefined ? undefined : nameIn(name)));
  });
  app.post("/checkpoint", async (c) => {
    requireToken(c, token);
    const { name, as } = c.req.query();
    if (name === undefined || as === undefined) throw new CowError("usage", "it needs name and as");
    return c.json(await control.history.checkpoint({ names: [nameIn(name)], as }));
  });
  app.notFound((c) => answerError(new CowError("not-found", `there is no ${c.req.method} ${c.req.path}`), c));
  return app;
}
