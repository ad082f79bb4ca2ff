/** Proves that the table of formats that can be written is the only list of them: schemas and claims agree with it. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { formatById, writtenFormats } from "../../../src/lib/formats/registry.ts";
import { CONVERT_FORMATS } from "../../../src/lib/index.ts";

const ids = writtenFormats.map(({ id }) => id);

test.each(["convert", "measure"])("the schema of %s lists the formats of the table", (command) => {
  const schema = new URL(`../../../schemas/${command}.schema.json`, import.meta.url);
  expect(JSON.parse(readFileSync(schema, "utf8")).properties.to.enum).toEqual(ids);
  expect(CONVERT_FORMATS).toEqual(ids);
});

test("an image of each is read back by the format of its id, or is raw", () => {
  expect(ids.filter((id) => !formatById(id))).toEqual(["raw"]);
  const options = writtenFormats.flatMap((format): readonly string[] => format.options);
  expect(new Set(options).size).toBe(options.length);
});
