/**
 * Owns where the page's files are: scripts/bundle.mjs puts them into dist/page, which the compiled library, the bundled
 * program and the source each see from another place.
 */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { CowError } from "../../errors.ts";

const PLACES = ["../page/", "../../../page/", "../../../../dist/page/"].map((place) =>
  fileURLToPath(new URL(place, import.meta.url)),
);
/** Only dist has it: src/page has its sources. */
const BUNDLE = "page.js";

const known = new Map<string, string>();

/** @throws CowError `not-found` in a package without it */
export function pageFile(name: "index.html" | "page.js" | "page.css" | "icon.svg"): string {
  const text = known.get(name) ?? readPage(name);
  known.set(name, text);
  return text;
}

function readPage(name: string): string {
  const folder = PLACES.find((place) => existsSync(`${place}${BUNDLE}`));
  if (folder === undefined)
    throw new CowError("not-found", "the page is not in this package: `npm run build` makes it");
  return readFileSync(`${folder}${name}`, "utf8");
}
