/**
 * Owns `npm run demo`: one story from a golden image over a crash to a merge and back, and then with cowtool as a server
 * that is killed, and one whose disk has a history, run for real in a temporary directory, each step confirmed by e2fsck and debugfs. Must need neither root
 * nor network.
 *
 *   node scripts/demo.mjs [--keep]     --keep leaves the directory in place
 *
 * Exit status: 0 all came out as expected, 1 something did not, 2 the demo cannot run here.
 */
import { createHash } from "node:crypto";
import { copyFileSync } from "node:fs";
import { writeAndDie } from "./demo/dying-driver.mjs";
import { changeFiles, confirm, makeFileSystem, PROGRAMS } from "./demo/ext4.mjs";
import { history } from "./demo/history.mjs";
import { CLIENT_PROGRAMS, startServer, writeThroughQemu } from "./demo/live-server.mjs";
import { FailedExpectation, isInstalled, Stage } from "./demo/stage.mjs";

/** Bytes without pattern, the same on every run. */
function noise(bytes) {
  const pieces = [];
  for (let n = 0; n * 32 < bytes; n++) pieces.push(createHash("sha256").update(`cowtool ${n}`).digest());
  return Buffer.concat(pieces).subarray(0, bytes);
}

const numbers = `${Array.from({ length: 20_000 }, (_, n) => n + 1).join("\n")}\n`;
const GOLDEN = { "release.txt": "release 1\n", "numbers.txt": numbers, "data.bin": null };
const MONDAY = { "release.txt": "release 2, of Monday\n", "numbers.txt": numbers, "data.bin": null };
const TUESDAY = { "release.txt": "release 3, of Tuesday\n", "numbers.txt": numbers, "data.bin": noise(300_000) };
const WEDNESDAY = {
  "release.txt": "release 4, of Wednesday\n",
  "numbers.txt": numbers,
  "data.bin": noise(300_000),
  "more.bin": noise(500_000).subarray(200_000),
};

function goldenImage(stage) {
  stage.step("A golden image");
  stage.say("The image that many machines share, and that nobody shall write: here ext4 with two files.");
  makeFileSystem(stage, "golden.img", "16M", { "release.txt": GOLDEN["release.txt"], "numbers.txt": numbers });
  confirm(stage, "golden.img", GOLDEN);
}

function emptyCowfile(stage) {
  stage.step("A cowfile over it");
  stage.say("A cowfile takes the writes of one machine: a head, a bitmap of the blocks it holds, and these blocks.");
  stage.say("A new one is empty, byte for byte what the cowloop driver would make.");
  stage.cowtool(["create", "golden.img", "empty.cow"], { shows: ["0 of 16384"] });
  stage.cowtool(["check", "empty.cow"], { shows: ["clean"] });
}

function changesOfMonday(stage) {
  stage.step("Changes, as a cowfile");
  stage.say("On a copy we change a file. `create --from` makes the cowfile that holds just the difference.");
  copyFileSync(stage.path("golden.img"), stage.path("monday.img"));
  changeFiles(stage, "monday.img", { "release.txt": MONDAY["release.txt"] });
  stage.cowtool(["create", "golden.img", "vm1.cow", "--from", "monday.img"]);
  stage.cowtool(["info", "vm1.cow", "--map"], { shows: ["clean", "allocated in the cowfile"] });
  stage.cowtool(["verify-fingerprint", "golden.img", "vm1.cow"], { shows: ["belongs to golden.img"] });
  stage.say("", "What does a machine see on golden.img + vm1.cow? `merge -o` writes that into a new image.");
  stage.cowtool(["merge", "golden.img", "vm1.cow", "-o", "view.img"]);
  confirm(stage, "view.img", MONDAY);
  stage.expectSame(stage.read("view.img"), stage.read("monday.img"), "view.img is monday.img, byte for byte");
}

/** @returns blocks whose marks are missing */
function crash(stage) {
  stage.step("The machine goes on writing, and crashes");
  stage.say("More changes. This time we write them into vm1.cow ourselves, block by block, as the driver does:");
  stage.say("data goes to its place at once, the head is marked dirty, but the bits in the bitmap wait in memory");
  stage.say("for the next sync. Then the driver dies: there is no next sync.");
  copyFileSync(stage.path("monday.img"), stage.path("tuesday.img"));
  const { "release.txt": release, "data.bin": data } = TUESDAY;
  changeFiles(stage, "tuesday.img", { "release.txt": release, "data.bin": data });
  const { written, unmarked } = writeAndDie(stage.path("vm1.cow"), stage.path("monday.img"), stage.path("tuesday.img"));
  stage.expect(unmarked > 250, `more than 250 unmarked blocks after the crash, not ${unmarked}`);
  stage.say("", `The head of vm1.cow now says dirty. Of ${written} blocks written since the last sync,`);
  stage.say(`${unmarked} are in the file, but not in its bitmap.`);
  return unmarked;
}

function refusal(stage, unmarked) {
  stage.step("What is wrong with it?");
  stage.say("`check` changes nothing. Exit status 1: there are problems, and repair can put them right.");
  stage.cowtool(["check", "vm1.cow"], { exit: 1, shows: ["dirty"] });
  stage.say("", "A merge now would leave out what the bitmap does not name, and half a file system is none.");
  stage.say("cowtool refuses (4), before it writes anything; the original cowmerge would go ahead.");
  const golden = stage.read("golden.img");
  stage.cowtool(["merge", "golden.img", "vm1.cow", "--yes"], { exit: 4, shows: ["dirty", "repair"] });
  stage.expectSame(stage.read("golden.img"), golden, "golden.img was not touched");
  const cowfile = stage.read("vm1.cow");
  stage.say("", "What would repair do? -n only says so; exit status 1, as for check.");
  stage.cowtool(["repair", "-n", "vm1.cow"], { exit: 1, shows: [`${unmarked} blocks would be newly allocated`] });
  stage.expectSame(stage.read("vm1.cow"), cowfile, "vm1.cow was not touched");
}

function repair(stage, unmarked) {
  stage.step("Repair");
  stage.say("It finds the blocks by their data, marks them, counts again, and clears the dirty mark last.");
  stage.cowtool(["repair", "vm1.cow"], { shows: [`${unmarked} blocks newly allocated`, "clean"] });
  stage.cowtool(["check", "vm1.cow"], { shows: ["clean, no problems"] });
  stage.say("", "Is everything of Tuesday there?");
  stage.cowtool(["merge", "golden.img", "vm1.cow", "-o", "repaired.img"]);
  confirm(stage, "repaired.img", TUESDAY);
  stage.expectSame(stage.read("repaired.img"), stage.read("tuesday.img"), "repaired.img is tuesday.img, byte for byte");
}

function mergeAndBack(stage) {
  const golden = stage.read("golden.img");
  stage.step("Merge into the golden image");
  stage.say("Now golden.img itself shall hold the changes. --undo first saves what will be overwritten; --yes answers");
  stage.say("the question that is asked on a terminal.");
  stage.cowtool(["merge", "golden.img", "vm1.cow", "--undo", "undo.cow", "--yes"], { shows: ["undo.cow"] });
  confirm(stage, "golden.img", TUESDAY);
  stage.expectSame(stage.read("golden.img"), stage.read("tuesday.img"), "golden.img is tuesday.img, byte for byte");
  stage.say("", "Other cowfiles were made over the former image. They no longer fit, and cowtool notices.");
  stage.cowtool(["verify-fingerprint", "golden.img", "empty.cow"], { exit: 1, shows: ["does not belong"] });

  stage.step("And take it back");
  stage.say("The undo file is a cowfile over the merged image: merging it takes the merge back.");
  stage.cowtool(["merge", "golden.img", "undo.cow", "--yes"]);
  confirm(stage, "golden.img", GOLDEN);
  stage.expectSame(stage.read("golden.img"), golden, "golden.img is what it was before, byte for byte");
  stage.cowtool(["verify-fingerprint", "golden.img", "empty.cow"], { shows: ["belongs to golden.img"] });
}

const DISK = ["serve", "golden.img", "vm1.cow", "--socket", "vm1.sock"];
const URI = "nbd+unix:///?socket=vm1.sock";

/** @returns once the server was killed */
async function serveAndKill(stage) {
  stage.step("cowtool as the disk of a machine");
  stage.say("Without the driver: cowtool serves golden.img and vm1.cow as one disk over NBD. The client is QEMU's.");
  copyFileSync(stage.path("tuesday.img"), stage.path("wednesday.img"));
  const { "release.txt": release, "more.bin": more } = WEDNESDAY;
  changeFiles(stage, "wednesday.img", { "release.txt": release, "more.bin": more });
  const server = await startServer(stage, DISK);
  stage.say(
    "",
    "We let it write what makes Wednesday's file system of Tuesday's. It waits for each reply, asks for no",
  );
  stage.say("flush, and is still connected when the server is killed.");
  stage.show(`qemu-io -f raw '${URI}'`);
  const { client, bytes, writes } = await writeThroughQemu(stage, URI, "tuesday.img", "wednesday.img");
  stage.say(`${writes} writes, ${bytes} bytes, all of them answered`);
  stage.expect(bytes > 300_000, `more than 300000 bytes written, not ${bytes}`);
  stage.show(`kill -9 ${server.pid}`);
  stage.expect((await server.end("SIGKILL")) === "SIGKILL", "a server that was killed");
  await client.end("SIGKILL");
}

async function recover(stage) {
  stage.step("Nothing is lost");
  stage.cowtool(["check", "vm1.cow", "-v"], { exit: 1, shows: ["dirty", "cowtool was serving it"] });
  stage.say("", "The journal beside the cowfile has the marks: nothing is searched, and zeros are found, too.");
  stage.cowtool(["repair", "vm1.cow"], { shows: ["repaired and marked clean"] });
  stage.cowtool(["check", "vm1.cow"], { shows: ["clean, no problems"] });
  const server = await startServer(stage, DISK);
  stage.say("", "What does a machine see now? qemu-img copies the whole disk.");
  stage.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", URI, "served.img"]);
  confirm(stage, "served.img", WEDNESDAY);
  const [served, wednesday] = [stage.read("served.img"), stage.read("wednesday.img")];
  stage.expectSame(served, wednesday, "served.img is wednesday.img, byte for byte: every answered write is there");
  stage.say("", "SIGTERM ends it in order.");
  stage.show(`kill ${server.pid}`);
  const status = await server.end("SIGTERM");
  stage.expect(status === 0, `exit status 0 of the server, not ${status}`, server.output);
  stage.cowtool(["check", "vm1.cow"], { shows: ["clean, no problems"] });
}

async function serving(stage) {
  const missing = CLIENT_PROGRAMS.filter((program) => !isInstalled(program));
  if (missing.length === 0) {
    await serveAndKill(stage);
    await recover(stage);
    await history(stage, { monday: MONDAY, tuesday: TUESDAY });
    return;
  }
  console.error(
    `\ndemo: SKIPPED: cowtool as a server: no ${missing.join(", ")} here; they are in the package qemu-utils:`,
  );
  console.error("demo:   apt-get install qemu-utils");
}

async function play(stage) {
  console.log(
    "cowtool's demo: a golden image, a cowfile, a crash, and the way back; a server that is killed; a disk with a history.",
  );
  console.log(`It works in ${stage.directory}; lines with a $ are what you could type there.`);
  console.log(
    "Here `cowtool` is bin/run.js of this checkout; for your own images: `npx cowtool`, or install it (README.md).",
  );
  stage.cowtool(["--version"], { shows: ["cowtool/"] });
  goldenImage(stage);
  emptyCowfile(stage);
  changesOfMonday(stage);
  const unmarked = crash(stage);
  refusal(stage, unmarked);
  repair(stage, unmarked);
  mergeAndBack(stage);
  await serving(stage);
}

/** @returns the exit status */
async function main() {
  const missing = PROGRAMS.filter((program) => !isInstalled(program));
  if (missing.length > 0) {
    console.error(`demo: CANNOT RUN: no ${missing.join(", ")} here; they are in the package e2fsprogs:`);
    console.error("demo:   apt-get install e2fsprogs");
    return 2;
  }
  const startedMs = performance.now();
  const stage = new Stage();
  // However it ends, also by a signal while a server runs.
  process.once("exit", () => {
    if (process.argv.includes("--keep")) console.log(`Everything is still in ${stage.directory}.`);
    else stage.clear();
  });
  try {
    await play(stage);
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    console.log(`\nThe demo went as it should: ${stage.held} expectations held, ${seconds} s.`);
    return 0;
  } catch (error) {
    if (!(error instanceof FailedExpectation)) throw error;
    console.error(`\ndemo: FAILED, expected: ${error.message}`);
    return 1;
  }
}

// Ctrl-C reaches the program that is being run as well.
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));
process.exitCode = await main();
