/**
 * Owns `cowtool serve` as other people's clients need it: known by its ready object. Knows nothing of the clients.
 */
import { type ServeProgram, serveProgram } from "../nbd/program.ts";

export interface Served extends ServeProgram {
  /** Of the first export. */
  readonly uri: string;
  /** Of each export, by name. */
  readonly uris: ReadonlyMap<string, string>;
}

interface ReadyObject {
  readonly uri: string;
  readonly exports: readonly { readonly name: string; readonly uri: string }[];
}

/** Starts `cowtool serve` and waits until it is ready. It ends with the test file at the latest. */
export async function startServe(argv: readonly string[]): Promise<Served> {
  const server = await serveProgram(["--json", ...argv]);
  const { uri, exports } = JSON.parse(server.said()) as ReadyObject;
  return { ...server, uri, uris: new Map(exports.map((each) => [each.name, each.uri])) };
}
