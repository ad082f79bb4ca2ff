/**
 * Owns the route of the control socket that changes an export's history.
 */
import { listIn, textIfIn, textIn } from "./fields.ts";
import type { ControlHistory } from "./history.ts";
import { bodyOf, saying } from "./requests.ts";
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
}
