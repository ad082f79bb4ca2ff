/**
 * Owns `detach`: takes devices of the kernel's NBD client apart, unless something uses them.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { CowError } from "../../errors.ts";
import { isNbdUri, parseNbdUri } from "../../protocol/uri.ts";
import {
  type AttachedDevice,
  attachedDevice,
  attachedDevices,
  type DeviceRoots,
  indexOf,
  isAttached,
  isDevice,
} from "./kernel-devices.ts";
import { type AttachSystem, requireKernel, thisMachine } from "./system.ts";

const POLL_MS = 20;
const GONE_AFTER_MS = 10_000;

export interface DetachRequest {
  /** Every orphan that nothing uses, in the place of one device. */
  readonly orphans?: boolean;
  readonly dryRun?: boolean;
}

export interface DetachResult {
  readonly detached: readonly AttachedDevice[];
  /** Orphans that stay, because something uses them. */
  readonly left: readonly AttachedDevice[];
  readonly dry_run: boolean;
}

/** All attached devices. */
export function listAttached({ roots }: AttachSystem = thisMachine): readonly AttachedDevice[] {
  return attachedDevices(roots);
}

/**
 * Detaches a device.
 *
 * @param name the device, the URI, or the name of its export; undefined with `orphans`
 * @throws CowError `usage`, `permission` (not root), `unsupported` (no module), `not-found` (not attached), `locked` (in
 *   use), `io`
 */
export async function detach(
  name: string | undefined,
  { orphans = false, dryRun = false }: DetachRequest = {},
  system: AttachSystem = thisMachine,
): Promise<DetachResult> {
  if ((name === undefined) !== orphans)
    throw new CowError(
      "usage",
      name === undefined
        ? "there is nothing to detach: give a device, or --orphans"
        : "--orphans goes without a device",
      { file: name },
    );
  const all = name === undefined ? attachedDevices(system.roots).filter(({ state }) => state === "orphan") : [];
  const chosen = name === undefined ? all.filter(({ in_use }) => in_use === null) : [find(system.roots, name)];
  for (const { device, in_use } of chosen)
    if (in_use !== null)
      throw new CowError("locked", `${in_use}: it stays attached`, {
        file: device,
        hints: ["unmount it, or end what uses it, and run the same command again"],
      });
  if (!dryRun && chosen.length > 0) await take(chosen, system);
  return { detached: chosen, left: all.filter((each) => !chosen.includes(each)), dry_run: dryRun };
}

async function take(devices: readonly AttachedDevice[], system: AttachSystem): Promise<void> {
  const kernel = requireKernel(system);
  try {
    for (const { device } of devices) {
      kernel.disconnect(indexOf(device));
      await waitUntilDetached(system.roots, indexOf(device));
    }
  } finally {
    kernel.close();
  }
}

function find(roots: DeviceRoots, name: string): AttachedDevice {
  if (isDevice(name)) {
    const found = attachedDevice(roots, indexOf(name));
    if (found) return found;
    throw new CowError("not-found", "is not attached", { file: name });
  }
  const found = attachedDevices(roots).filter(({ uri }) => uri !== null && (uri === name || exportOf(uri) === name));
  const [only, ...more] = found;
  if (!only) throw new CowError("not-found", "no device is attached to it", { file: name });
  if (more.length === 0) return only;
  throw new CowError("usage", `${found.map(({ device }) => device).join(" and ")} are attached to it: name one`, {
    file: name,
  });
}

function exportOf(uri: string): string | undefined {
  return isNbdUri(uri) ? parseNbdUri(uri).exportName : undefined;
}

/** @throws CowError `io` if the kernel does not let go */
export async function waitUntilDetached(roots: DeviceRoots, index: number): Promise<void> {
  for (const until = performance.now() + GONE_AFTER_MS; isAttached(roots, index); await sleep(POLL_MS))
    if (performance.now() > until)
      throw new CowError("io", "is still attached: the kernel has not let go of it", { file: `/dev/nbd${index}` });
}
