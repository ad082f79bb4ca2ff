/**
 * Owns everything that is generated into the checkout from the commands' own tables: man pages, completions, the tables
 * in docs/, and the list of pages in package.json. What may be generated wrongly is held by test/docs.
 *
 *   node scripts/man.mjs [--check]     --check changes nothing, and exits 1 if something is not current
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { generatedFiles, leftoverFiles } from "./manual/generate.ts";

const root = new URL("../", import.meta.url);
const isCheck = process.argv.includes("--check");
const stale = [];

for (const [path, text] of await generatedFiles()) {
  const file = new URL(path, root);
  if (existsSync(file) && readFileSync(file, "utf8") === text) continue;
  stale.push(path);
  if (isCheck) continue;
  mkdirSync(dirname(fileURLToPath(file)), { recursive: true });
  writeFileSync(file, text);
}
for (const path of await leftoverFiles()) {
  stale.push(path);
  if (!isCheck) rmSync(new URL(path, root));
}
for (const path of stale) console.log(`${isCheck ? "not current" : "written"}: ${path}`);
if (isCheck && stale.length > 0) process.exitCode = 1;
