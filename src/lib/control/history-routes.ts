/**
 * Owns the routes of the control socket that change an export's history.
 */
import { listIn, numberIn, textIfIn, textIn, truthIn } from "./fields.ts";
import type { ControlHistory } from "./history.ts";
import { bodyOf, nameOf, saying } from "./requests.ts";
import type { Hono } from "./vendor.ts";

export function addHistoryRoutes(app: Hono, history: ControlHistory): void {
  app.post("/v1/checkpoints", async (c) => {
    const fields = await bodyOf(c, ["names", "as", "note"]);
    const request = saying(() => ({
      names: listIn(fields, "names"),
      as: textIn(fields, "as"),
      note: textIfIn(fields, "note"),
    }));
    return c.json(await history.checkpoint(request), 201);
  });
  app.post("/v1/exports/:name/rollback", async (c) => {
    const fields = await bodyOf(c, ["checkpoint", "keep", "discard", "force"]);
    const request = saying(() => ({
      checkpoint: textIn(fields, "checkpoint"),
      keep: textIfIn(fields, "keep"),
      discard: truthIn(fields, "discard"),
      force: truthIn(fields, "force"),
    }));
    return c.json(await history.rollback(nameOf(c), request));
  });
  app.post("/v1/exports/:name/fork", async (c) => {
    const fields = await bodyOf(c, ["as", "checkpoint", "cowfile", "stack_file"]);
    const request = saying(() => ({
      as: textIn(fields, "as"),
      checkpoint: textIfIn(fields, "checkpoint"),
      cowfile: textIfIn(fields, "cowfile"),
      stack_file: textIfIn(fields, "stack_file"),
    }));
    return c.json(await history.fork(nameOf(c), request), 201);
  });
  app.post("/v1/exports/:name/squash", async (c) => {
    const fields = await bodyOf(c, ["from", "to"]);
    const request = saying(() => ({ from: textIfIn(fields, "from"), to: textIfIn(fields, "to") }));
    return c.json(history.squash(nameOf(c), request), 202);
  });
  app.post("/v1/exports/:name/flatten", async (c) => {
    const fields = await bodyOf(c, ["into"]);
    const into = saying(() => textIn(fields, "into"));
    return c.json(history.flatten(nameOf(c), into), 202);
  });
  app.post("/v1/exports/:name/grow", async (c) => {
    const fields = await bodyOf(c, ["size", "force"]);
    const { size, force } = saying(() => ({ size: sizeIn(fields, "size"), force: truthIn(fields, "force") }));
    return c.json(await history.grow(nameOf(c), size, force));
  });
  app.delete("/v1/exports/:name/checkpoints/:checkpoint", async (c) => {
    await history.drop(nameOf(c), c.req.param("checkpoint"));
    return c.body(null, 204);
  });
}

function sizeIn(fields: Parameters<typeof numberIn>[0], key: string): number {
  const size = numberIn(fields, key);
  if (size === undefined) throw new Error(`${key} is missing`);
  return size;
}
