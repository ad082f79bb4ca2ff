/**
 * Owns HTTP towards a control socket: requests of JSON, and errors in answers as CowErrors.
 */
import * as http from "node:http";
import { CowError, ERROR_CODES, errnoName, systemError } from "../errors.ts";
import type { ErrorDocument } from "./documents.ts";

interface Request {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly body?: object;
  readonly signal?: AbortSignal | undefined;
}

export class Caller {
  /** Of the socket. */
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async json<Document>(request: Request): Promise<Document> {
    return JSON.parse(await this.send(request)) as Document;
  }

  async send(request: Request): Promise<string> {
    const response = await this.open(request);
    const text = await textOf(response);
    if ((response.statusCode ?? 500) >= 300) throw failureIn(text, this.path);
    return text;
  }

  open({ method, path, body, signal }: Request, headers: http.OutgoingHttpHeaders = {}): Promise<http.IncomingMessage> {
    const content = body === undefined ? undefined : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const request = http.request(
        {
          socketPath: this.path,
          method,
          path,
          agent: false,
          headers: { ...headers, ...(content !== undefined && { "content-type": "application/json" }) },
          ...(signal && { signal }),
        },
        resolve,
      );
      request.on("error", (error) => reject(this.#unreachable(error, signal)));
      request.end(content);
    });
  }

  #unreachable(error: Error, signal: AbortSignal | undefined): CowError {
    if (signal?.aborted) return new CowError("interrupted", "interrupted: the server goes on", { file: this.path });
    const errno = errnoName(error) ?? "";
    if (["ENOENT", "ECONNREFUSED", "ENOTSOCK"].includes(errno))
      return new CowError("not-found", "no server listens on this control socket", { file: this.path, cause: error });
    return systemError(error, this.path, "cannot speak to the server");
  }
}

export async function textOf(response: http.IncomingMessage): Promise<string> {
  let text = "";
  for await (const part of response.setEncoding("utf8")) text += part;
  return text;
}

/** The error that a document tells of. */
export function errorOf({ code: told, message, hints, details }: ErrorDocument): CowError {
  // A newer server may have others.
  const code = ERROR_CODES.find((each) => each === told) ?? "io";
  const { file } = details;
  return new CowError(code, message, { details, hints, file: typeof file === "string" ? file : undefined });
}

/** The error in a server's answer. */
export function failureIn(text: string, server: string): Error {
  try {
    const { error } = JSON.parse(text) as { readonly error: ErrorDocument };
    if (error.code === "internal")
      return new Error(error.message.replace(/^internal error: | \(a bug in cowtool\)$/g, ""));
    return errorOf(error);
  } catch {
    return new CowError("io", "answered something that is no answer of cowtool", { file: server });
  }
}
