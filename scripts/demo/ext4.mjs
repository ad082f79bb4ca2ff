/**
 * Owns the ext4 file systems of the demo, by e2fsprogs alone: made and changed without mounting, so without root, and
 * judged by programs that know nothing of cowtool.
 */
import { mkdirSync, writeFileSync } from "node:fs";

export const PROGRAMS = ["mke2fs", "debugfs", "e2fsck"];

/** Makes `image`, an ext4 file system that holds `files` (name → content). */
export function makeFileSystem(stage, image, sizeText, files) {
  mkdirSync(stage.path("files"));
  for (const [name, content] of Object.entries(files)) writeFileSync(stage.path(`files/${name}`), content);
  stage.run(["mke2fs", "-q", "-t", "ext4", "-d", "files", image, sizeText]);
}

/** Writes `files` into a file system, replacing those there are. */
export function changeFiles(stage, image, files) {
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(stage.path(`new-${name}`), content);
    if (has(stage, image, name)) stage.run(["debugfs", "-w", "-R", `rm ${name}`, image]);
    stage.run(["debugfs", "-w", "-R", `write new-${name} ${name}`, image]);
  }
}

function has(stage, image, name) {
  return stage.run(["debugfs", "-R", `stat ${name}`, image], { quietly: true }) !== "";
}

/**
 * Lets e2fsck go over `image`, and debugfs fetch every file.
 *
 * @param files name → content, or null where there must be none. The first is shown.
 */
export function confirm(stage, image, files) {
  const verdict = stage.run(["e2fsck", "-fn", image]).trim().split("\n").at(-1);
  stage.say(verdict);
  for (const [index, [name, content]] of Object.entries(files).entries()) {
    const isShown = index === 0;
    if (content === null) {
      stage.expect(!has(stage, image, name), `no ${name} in ${image}`);
      stage.say(`ok: ${image} holds no ${name}`);
      continue;
    }
    const found = stage.run(["debugfs", "-R", `cat ${name}`, image], { quietly: !isShown, encoding: "buffer" });
    if (isShown) process.stdout.write(found);
    stage.expectSame(found, content, `${name} in ${image} is as it was written (${content.length} bytes)`);
  }
}
