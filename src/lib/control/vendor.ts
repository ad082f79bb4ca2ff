/**
 * Owns the packages behind the control socket. scripts/bundle.mjs replaces the compiled form of this file by one that has
 * them within, so that the published library needs none of them.
 */
export { createAdaptorServer } from "@hono/node-server";
export { type Context, Hono, type Next } from "hono";
export { bodyLimit } from "hono/body-limit";
export { HTTPException } from "hono/http-exception";
export { streamSSE } from "hono/streaming";
export { collectDefaultMetrics, Registry } from "prom-client";
