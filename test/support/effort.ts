/**
 * Owns how much work something was: processor time of this process, which no other load on the machine lengthens, as it
 * does what a clock on the wall would say.
 */

/** Milliseconds of processor time, threads included, that `work` took. */
export async function cpuMsOf(work: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
