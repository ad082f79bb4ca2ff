/**
 * Owns reading the fields of JSON objects that others wrote. Throws plain errors in words; callers say what they are of.
 */
import type { Access } from "../stack/live/access.ts";

export type Fields = Readonly<Record<string, unknown>>;

const ACCESSES: readonly Access[] = ["writable", "read-only", "ephemeral"];

/** @param known the fields that there may be */
export function fieldsOf(value: unknown, known: readonly string[]): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("an object is expected");
  const unknown = Object.keys(value).find((key) => !known.includes(key));
  if (unknown !== undefined) throw new Error(`there is no field ${JSON.stringify(unknown)}`);
  return value as Fields;
}

export function textIn(fields: Fields, key: string): string {
  const value = fields[key];
  if (typeof value !== "string") throw new Error(`${key} must be a text`);
  return value;
}

export function textIfIn(fields: Fields, key: string): string | undefined {
  return fields[key] === undefined ? undefined : textIn(fields, key);
}

/** Of texts. */
export function listIn(fields: Fields, key: string): readonly string[] {
  const value = fields[key];
  if (!Array.isArray(value) || !value.every((each) => typeof each === "string"))
    throw new Error(`${key} must be a list of texts`);
  return value;
}

export function truthIn(fields: Fields, key: string): boolean | undefined {
  const value = fields[key];
  if (value !== undefined && typeof value !== "boolean") throw new Error(`${key} must be true or false`);
  return value;
}

/** A whole number from 0. */
export function numberIn(fields: Fields, key: string): number | undefined {
  const value = fields[key];
  if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= 0))
    throw new Error(`${key} must be a whole number from 0`);
  return value as number | undefined;
}

/** The same from `least`, or null for none. */
export function limitIn(fields: Fields, key: string, least = 1): number | null | undefined {
  if (fields[key] === null) return null;
  const value = numberIn(fields, key);
  if (value !== undefined && value < least) throw new Error(`${key} must be at least ${least}, or null for none`);
  return value;
}

export function accessIn(fields: Fields): Access | undefined {
  const value = fields["access"];
  const access = ACCESSES.find((each) => each === value);
  if (value !== undefined && access === undefined) throw new Error(`access must be one of ${ACCESSES.join(", ")}`);
  return access;
}
