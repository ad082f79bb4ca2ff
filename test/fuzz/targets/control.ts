/**
 * Owns the target that is the control socket: requests of any kind to a server with one export. Whatever is asked, the answer
 * is one that schemas/openapi.json knows: JSON with a status of its own, never an internal error.
 */
import { Control } from "../../../src/lib/control/control.ts";
import { EventHub } from "../../../src/lib/control/events.ts";
import { controlApp } from "../../../src/lib/control/http.ts";
import { MemoryStorage } from "../../../src/lib/index.ts";
import { Exports } from "../../../src/lib/nbd/server/exports.ts";
import { History } from "../../../src/lib/nbd/server/history.ts";
import { base, sample } from "../../support/images/hostile-sample.ts";
import type { Target } from "../engine.ts";

const REQUESTS = [
  "GET /v1/server\n",
  "GET /v1/exports\n",
  'POST /v1/exports\n{"name":"b","stack":"/base","access":"read-only","reserve":0}',
  'POST /v1/exports\n{"name":"c","stack":"/base","access":"ephemeral","quota":4096}',
  "GET /v1/exports/~\n",
  "DELETE /v1/exports/~?force=true\n",
  "DELETE /v1/exports/b?drain=true\n",
  "POST /v1/exports/~/close\n{}",
  'POST /v1/exports/~/reopen\n{"access":"read-only"}',
  "POST /v1/exports/~/sync\n",
  'POST /v1/exports/~/limit\n{"iops":5,"bandwidth":null,"quota":0}',
  "GET /v1/exports/~/stats\n",
  "GET /v1/stats\n",
  "GET /v1/jobs\n",
  "GET /v1/jobs/1?wait=true\n",
  "DELETE /v1/jobs/1\n",
  "GET /v1/events?name=~&below=100000\n",
  "POST /v1/sync\n",
  "POST /v1/stop\n",
];

/** `METHOD PATH`, a line feed, the body; requests are parted by NUL. */
export const control: Target = {
  seeds: () => [
    ...REQUESTS.map((text) => Buffer.from(text)),
    Buffer.from([REQUESTS[7], REQUESTS[8], REQUESTS[9]].join("\0")),
    Buffer.from([REQUESTS[3], REQUESTS[6], REQUESTS[14]].join("\0")),
  ],
  words: [...REQUESTS, "\0", "%00", "%2F", "..", "~~", '"__proto__":{}', "1e400", "-1", "null", "[]"].map((text) =>
    Buffer.from(text),
  ),
  run: async (bytes) => {
    const storage = new MemoryStorage();
    storage.put("/base", base);
    storage.put("/top", sample("le64"));
    const host = { defaults: {}, onClosed: () => undefined, isSound: () => true };
    const exports = new Exports(host, { storage });
    const history = new History(exports, { storage }, () => undefined);
    const server = { exports, history, urisOf: () => [], connectionCount: () => 0, end: () => undefined };
    const app = controlApp(new Control(server, storage, new EventHub(), { control: "/c", state: null }));
    try {
      await exports.add({ name: "", stack: "/base,/top", force: true });
      for (const request of Buffer.from(bytes).toString("latin1").split("\0").slice(0, 8)) await ask(app, request);
    } finally {
      await exports.end();
    }
  },
};

async function ask(app: ReturnType<typeof controlApp>, text: string): Promise<void> {
  const [line = "", ...rest] = text.split("\n");
  const [method = "", path = ""] = line.split(" ");
  let request: Request;
  try {
    const hasBody = !["GET", "HEAD"].includes(method);
    request = new Request(new URL(path, "http://x"), { method, ...(hasBody && { body: rest.join("\n") }) });
  } catch {
    // No client of HTTP could send it.
    return;
  }
  const response = await app.fetch(request);
  if (response.headers.get("content-type")?.startsWith("text/")) {
    await response.body?.cancel();
    return;
  }
  const answer = await response.text();
  if (response.status === 204 || method === "HEAD") return;
  const { error } = JSON.parse(answer) as { readonly error?: { readonly code: string; readonly message: string } };
  if (response.status < 400) return;
  if (!error || error.code === "internal") throw new Error(`${line}: ${response.status} ${answer}`);
}
