#!/usr/bin/env node
/*
 * Owns the start from source: cowtool without a build, by node's own type stripping. Must not be published, since it
 * needs src; otherwise it behaves as bin/run.js does.
 */
import { fileURLToPath } from "node:url";
import { main } from "../src/cli/main.ts";

await main({ argv: process.argv.slice(2), root: fileURLToPath(new URL("..", import.meta.url)), source: "src" });
