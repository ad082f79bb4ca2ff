/**
 * Owns reading what an HTTP request of the control socket says: its body, its query, the names in its path.
 */
import { CowError } from "../errors.ts";
import { nameIn } from "./export-name.ts";
import { type Fields, fieldsOf } from "./fields.ts";
import type { Context } from "./vendor.ts";

export function refuse(message: string): never {
  throw new CowError("usage", message);
}

/** Turns what reading fields throws into errors that say what is wrong with the request. */
export function saying<Result>(read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    return refuse(`the request is wrong: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export async function bodyOf(c: Context, known: readonly string[]): Promise<Fields> {
  const text = await c.req.text();
  return saying(() => fieldsOf(text === "" ? {} : JSON.parse(text), known));
}

export function queryOf<Key extends string>(c: Context, known: readonly Key[]): Partial<Record<Key, string>> {
  const query = c.req.query();
  for (const key of Object.keys(query)) if (!known.some((each) => each === key)) refuse(`there is no parameter ${key}`);
  return query as Partial<Record<Key, string>>;
}

export function isTrue(text: string | undefined, key: string): boolean {
  if (text !== undefined && text !== "true" && text !== "false") refuse(`${key} must be true or false`);
  return text === "true";
}

export function wholeNumber(text: string | undefined, key: string): number | undefined {
  if (text !== undefined && !/^\d{1,16}$/.test(text)) refuse(`${key} must be a whole number from 0`);
  return text === undefined ? undefined : Number(text);
}

/** Of an export. */
export function nameOf(c: Context): string {
  return nameIn(c.req.param("name") ?? "");
}
