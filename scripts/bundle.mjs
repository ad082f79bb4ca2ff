/**
 * Owns dist/program: the command line, bundled with the packages that it uses, so that an installed cowtool needs no
 * package but koffi, and starts from a few files. CommonJS, since that loads faster: node copies every built-in module's
 * exports for an ECMAScript import. A command is a file of its own, and so is each thread's program. Beside it dist/page: what
 * the page of `serve --dashboard` is in the browser.
 *
 *   node scripts/bundle.mjs FOLDER
 */
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { rolldown } from "rolldown";

const root = fileURLToPath(new URL("..", import.meta.url));
const commands = readdirSync(join(root, "src/commands")).map((name) => `commands/${basename(name, ".ts")}`);
/** Threads are started by the name of a file beside the one that starts them. */
const threads = ["lib/nbd/threads/data-worker", "lib/device/remote/remote-worker"];
const entries = ["cli/main", ...threads, ...commands];

/** The folder of the package that a bundled file is of. */
function packageOf(file) {
  const parts = file.split(sep);
  const at = parts.lastIndexOf("node_modules");
  if (at === -1) return undefined;
  return parts.slice(0, at + (parts[at + 1].startsWith("@") ? 3 : 2)).join(sep);
}

/** What the licences of the bundled packages ask for: their texts go with copies. */
function licences(folders) {
  const texts = [...folders].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
    const text = file === undefined ? `Licence: ${license}` : readFileSync(join(folder, file), "utf8").trim();
    return `${name} ${version}\n\n${text}\n`;
  });
  return `cowtool's program contains these packages, or parts of them.\n\n${texts.join(`\n${"-".repeat(78)}\n\n`)}`;
}

/**
 * Has modules loaded where they are first used instead of at the start: built-in ones in the chunks, and in oclif's
 * compiled files those that each names at its top, most of which no plain command line needs.
 */
const lazily = {
  name: "lazily",
  transform(source, id) {
    if (!id.includes("/@oclif/core/lib/")) return null;
    // bin/run.js has asked that already.
    const code = id.endsWith("/lib/index.js") ? source.replace(/^checkNodeVersion\(\);$/m, "") : source;
    const imports = /^(?:const|var) (\w+_\d+) = ((?:__import\w+\()?require\("[^"]+"\)\)?);$/gm;
    return [...code.matchAll(imports)].reduce((text, [line, name, load]) => later(text, line, name, load), code);
  },
  renderChunk(code) {
    const imports = /^let (node_\w+) = (require\("node:[\w/]+"\));$/gm;
    // One that is assigned to once more has a default import made of it: few, and not worth it.
    const isOnce = ([, name]) => !new RegExp(`^${name} = `, "m").test(code);
    return [...code.matchAll(imports)]
      .filter(isOnce)
      .reduce((text, [line, name, load]) => later(text, line, name, load), code);
  },
};

/** What those files import when they are loaded, and what that imports. */
function importedBy(files, found = new Set()) {
  for (const file of files) {
    if (found.has(file)) continue;
    found.add(file);
    const text = readFileSync(file, "utf8");
    const imports = [...text.matchAll(/^(?:import|export)(?! type)[^;]*? from "(\.[^"]+)";$/gm)];
    importedBy(
      imports.map(([, target]) => resolve(dirname(file), target)),
      found,
    );
  }
  return found;
}

const library = join(root, "src/lib") + sep;
/** Each file that is loaded costs a third of a millisecond: what every short command needs is in one. */
const hot = importedBy(
  ["commands/info", "commands/check", "lib/operations/info", "lib/operations/check"].map((name) =>
    join(root, "src", `${name}.ts`),
  ),
);
for (const name of entries) hot.delete(join(root, "src", `${name}.ts`));

function later(text, line, name, load) {
  const [before, after] = text.split(line);
  const use = new RegExp(`(?<![.\\w$])${name}\\b`, "g");
  const loaded = `(${name}$ ??= ${load})`;
  return `${before.replace(use, loaded)}let ${name}$;${after.replace(use, loaded)}`;
}

const folder = process.argv[2];
/** The library needs no package either: where its server takes them from is replaced by a file that has them within. */
const vendor = await rolldown({ input: join(root, "src/lib/control/vendor.ts"), platform: "node" });
const own = await vendor.write({ file: join(folder, "../lib/control/vendor.js"), format: "esm" });
const bundle = await rolldown({
  input: Object.fromEntries(
    entries.map((name) => [name.startsWith("commands/") ? name : basename(name), join(root, "src", `${name}.ts`)]),
  ),
  platform: "node",
  external: ["koffi"],
  plugins: [lazily],
});
const { output } = await bundle.write({
  dir: folder,
  format: "cjs",
  entryFileNames: "[name].js",
  chunkFileNames: "[name]-[hash].js",
  exports: "named",
  codeSplitting: {
    groups: [
      { name: "lib", test: (id) => hot.has(id) && id.startsWith(library), priority: 1 },
      { name: "cli", test: (id) => hot.has(id) },
    ],
  },
});
const page = await rolldown({ input: join(root, "src/page/main.ts"), platform: "browser" });
await page.write({ file: join(folder, "../page/page.js"), format: "esm", minify: true });
for (const name of ["index.html", "page.css", "icon.svg"])
  copyFileSync(join(root, "src/page", name), join(folder, "../page", name));
writeFileSync(join(folder, "package.json"), '{ "type": "commonjs" }\n');
const packages = [...output, ...own.output].flatMap(({ moduleIds = [] }) => moduleIds.map((id) => packageOf(id)));
const used = new Set(packages.filter((each) => each !== undefined && existsSync(join(each, "package.json"))));
writeFileSync(join(folder, "THIRD-PARTY-LICENSES.txt"), licences(used));
