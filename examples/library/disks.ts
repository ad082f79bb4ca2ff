/**
 * What a program that manages disks does with cowtool as a library: makes a cowfile over a base, looks at it, checks it,
 * compares it with the base, and says what went wrong where something did.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check, CowError, create, diff, info, squash } from "cowtool";

const folder = mkdtempSync(join(tmpdir(), "cowtool-example-"));
try {
  const [base, changed, layer] = ["golden.img", "changed.img", "vm1.cow"].map((name) => join(folder, name)) as [string, string, string];
  const bytes = new Uint8Array(64 * 1024).fill(7);
  writeFileSync(base, bytes);
  bytes.fill(8, 4096, 8192);
  writeFileSync(changed, bytes);

  const made = await create(base, layer, { from: changed });
  console.log(`made a cowfile of ${made.blocks_used} blocks`);

  const { facts, problems } = await info(layer);
  console.log(`${facts.format}, ${facts.virtual_size} bytes, ${[...problems].length} problems`);

  const report = await check(layer);
  console.log(`to be repaired: ${report.worst.fixable + report.worst.unfixable}`);

  const { extents, bytesDifferent } = await diff(base, `${base},${layer}`);
  for (const { offset, length } of extents) console.log(`differs from byte ${offset}, ${length} bytes`);
  console.log(`${bytesDifferent} bytes in all`);

  await squash(`${base},${layer}`, join(folder, "missing", "week.cow"));
} catch (error) {
  if (!(error instanceof CowError)) throw error;
  console.log(error.code, String(error).replace(folder, "…"));
} finally {
  rmSync(folder, { recursive: true });
}
