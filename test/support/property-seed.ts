/**
 * Owns the seed of property tests: fast-check draws one for each, and tells it where one fails; COWTOOL_SEED gives it again.
 */
const seed = process.env["COWTOOL_SEED"];

if (seed !== undefined) {
  const { default: fc } = await import("fast-check");
  fc.configureGlobal({ seed: Number(seed) });
}
