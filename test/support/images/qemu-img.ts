/**
 * Owns the use of QEMU's own programs by tests: making qcow2 files of every kind, and judging those that we make.
 */
import { spawnSync } from "node:child_process";

function run(program: string, args: readonly string[]) {
  return spawnSync(program, args, { encoding: "utf8", timeout: 60_000 });
}

export const hasQemu = run("qemu-img", ["--version"]).status === 0 && run("qemu-io", ["--version"]).status === 0;

/** Runs qemu-img; what it prints on stdout. Any other status than `expected` fails the test. */
export function qemuImg(args: readonly string[], expected: readonly number[] = [0]): string {
  const { status, stdout, stderr } = run("qemu-img", args);
  if (status === null || !expected.includes(status))
    throw new Error(`qemu-img ${args.join(" ")}: ${status}\n${stdout}${stderr}`);
  return stdout;
}

/** Runs commands of qemu-io on a file of a format. */
export function qemuIo(file: string, commands: readonly string[], format = "qcow2"): void {
  const words = commands.flatMap((command) => ["-c", command]);
  const { status, stdout, stderr } = run("qemu-io", ["-f", format, "-d", "unmap", ...words, file]);
  if (status !== 0 || /error|failed/i.test(stdout)) throw new Error(`qemu-io ${file}: ${status}\n${stdout}${stderr}`);
}

/** Fails unless `qemu-img check` finds neither errors nor leaks. */
export function requireQemuCheck(file: string): void {
  const report = JSON.parse(qemuImg(["check", "-f", "qcow2", "--output=json", file], [0, 2, 3])) as Record<
    string,
    number
  >;
  for (const key of ["check-errors", "corruptions", "leaks"]) {
    if ((report[key] ?? 0) !== 0) throw new Error(`${file}: ${key} ${report[key]}`);
  }
}

interface Image {
  readonly file: string;
  readonly format: string;
}

/** Fails unless two images are the same to QEMU, sizes included. */
export function requireQemuSame(a: Image, b: Image): void {
  qemuImg(["compare", "-f", a.format, "-F", b.format, a.file, b.file]);
  const [one, other] = [a, b].map(({ file, format }) => {
    const info = JSON.parse(qemuImg(["info", "-f", format, "--output=json", file])) as { "virtual-size": number };
    return info["virtual-size"];
  });
  if (one !== other) throw new Error(`${a.file} has ${one} bytes, ${b.file} ${other}`);
}
