/**
 * Owns the parts of the machine that attaching works on, so that tests can put others in their place.
 */
import { type KernelSocket, openKernelSocket } from "../../device/remote/kernel-socket.ts";
import { type NbdKernel, openNbdKernel } from "../../device/sys/nbd-kernel.ts";
import { CowError, shellWord } from "../../errors.ts";
import type { NbdUri } from "../../protocol/uri.ts";
import type { DeviceRoots } from "./kernel-devices.ts";

export interface AttachSystem {
  readonly roots: DeviceRoots;
  readonly isRoot: boolean;
  /** Undefined without the module. */
  openKernel(): NbdKernel | undefined;
  dial(uri: NbdUri, name: string): Promise<KernelSocket>;
}

export const thisMachine: AttachSystem = {
  roots: { proc: "/proc", sys: "/sys", run: "/run/cowtool" },
  isRoot: process.geteuid?.() === 0,
  openKernel: openNbdKernel,
  dial: openKernelSocket,
};

/**
 * The kernel's client.
 * @param uri for the hint what does the same without it
 * @throws CowError `permission` unless root asks; `unsupported` without the module
 */
export function requireKernel(system: AttachSystem, uri?: string): NbdKernel {
  if (!system.isRoot)
    throw new CowError("permission", "only root may attach and detach devices", {
      hints: [...(uri === undefined ? [] : [withoutKernel(uri)]), "run the same command with sudo"],
    });
  const kernel = system.openKernel();
  if (kernel) return kernel;
  throw new CowError("unsupported", "the kernel's NBD client is missing: its module nbd is not loaded", {
    hints: ["`modprobe nbd` loads it, if this kernel has it", ...(uri === undefined ? [] : [withoutKernel(uri)])],
  });
}

/** A file in the place of a device: for users, and for kernels without the module. */
function withoutKernel(uri: string): string {
  return `\`mkdir -p disk && nbdfuse disk/img ${shellWord(uri)} &\` shows it as the file disk/img, and \`fusermount3 -u disk\` ends that`;
}
