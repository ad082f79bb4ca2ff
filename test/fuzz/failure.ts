/** Owns what is told of a failure; never the input itself, which may be long. */
import type { Failure } from "./engine.ts";

export function describeFailure({ target, input, error }: Failure): string {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return `FAILED: ${target}, ${input.length} bytes: ${text.split("\n").slice(0, 6).join("\n").slice(0, 800)}`;
}
