/**
 * Owns who may ask the page's server for what. A browser that shows another site is made to send requests here, too: by its
 * name for this address (DNS rebinding), or across sites. So the Host must be one that we have, a request of another origin
 * is refused, and what changes something needs a token that only the control socket gives.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { CowError } from "../../errors.ts";
import type { Context, Next } from "../vendor.ts";

/** What every answer says: nothing from elsewhere, nothing inline, no frame, no copy in a cache. */
const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "cache-control": "no-store",
};

export interface Origin {
  readonly scheme: "http" | "https";
  /** May a client know this server by the name? In lower case, IPv6 in brackets. */
  readonly isOwnHost: (host: string) => boolean;
  readonly port: number;
}

/** Refuses what no page of ours sends. */
export function guard({ scheme, isOwnHost, port }: Origin): (c: Context, next: Next) => Promise<void> {
  return async (c, next) => {
    for (const [name, value] of Object.entries(HEADERS)) c.header(name, value);
    const host = (c.req.header("host") ?? "").toLowerCase();
    const [, name = "", given = ""] = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::(\d{1,5}))?$/.exec(host) ?? [];
    const defaultPort = scheme === "http" ? 80 : 443;
    if (name === "" || (given === "" ? defaultPort : Number(given)) !== port || !isOwnHost(name))
      throw new CowError("permission", "this server has no such host: use the address that it was started with");
    const origin = c.req.header("origin");
    const isRead = c.req.method === "GET" || c.req.method === "HEAD";
    const isOwn = origin?.toLowerCase() === `${scheme}://${host}`;
    if (origin === undefined ? !isRead : !isOwn)
      throw new CowError("permission", "a request of another site is refused");
    // Browsers say where a request comes from, also where they send no Origin. A link from elsewhere may lead to the page.
    const site = c.req.header("sec-fetch-site");
    const isLink = c.req.header("sec-fetch-mode") === "navigate" && c.req.path === "/" && isRead;
    if (site !== undefined && site !== "same-origin" && site !== "none" && !isLink)
      throw new CowError("permission", "a request of another site is refused");
    await next();
  };
}

/** @throws CowError `permission` unless the request has `Authorization: Bearer TOKEN` */
export function requireToken(c: Context, token: string): void {
  const [, given = ""] = /^Bearer ([A-Za-z0-9_-]{1,200})$/.exec(c.req.header("authorization") ?? "") ?? [];
  // Of equal length, whatever was sent.
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  if (timingSafeEqual(digest(given), digest(token))) return;
  throw new CowError("permission", "the token is missing or wrong: `cowtool ctl dashboard` prints the address with it");
}
