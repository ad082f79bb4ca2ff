/**
 * Owns the binding to the C library: the one place that loads native code. Everything here may be absent (no binary
 * for this platform, not Linux, COWTOOL_NO_FFI set); every caller has a portable way.
 */
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import { CowError } from "../../errors.ts";

/** errno values that the callers tell apart. */
export const Errno = {
  EPERM: 1,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  EACCES: 13,
  EFAULT: 14,
  EXDEV: 18,
  EINVAL: 22,
  ENOSPC: 28,
  ENOSYS: 38,
  EOPNOTSUPP: 95,
} as const;

/** The system calls that Node lacks. Each returns -1 on failure; `errno()` then tells why. Offsets in bytes. */
export interface Libc {
  errno(): number;
  /** A printable name and sentence for an errno. */
  describe(errno: number): string;
  lseek(fd: number, offset: number, whence: number): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
  /** `offsets` are updated by the kernel. */
  copyFileRange(fdIn: number, offIn: BigInt64Array, fdOut: number, offOut: BigInt64Array, length: number): number;
  syncFileRange(fd: number, offset: number, length: number, flags: number): number;
  ioctlNumber(fd: number, request: number, value: number): number;
  ioctlBuffer(fd: number, request: number, buffer: Uint8Array): number;
  fcntlBuffer(fd: number, command: number, buffer: Uint8Array): number;
  fcntlNumber(fd: number, command: number, value: number): number;
  shutdown(fd: number, how: number): number;
  socket(domain: number, type: number, protocol: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array): number;
  socketpair(domain: number, type: number, protocol: number, fds: Int32Array): number;
  /** poll(2) without waiting; `fds` are `count` structs pollfd. */
  pollNow(fds: Uint8Array, count: number): number;
  /** `iovec` is an address. */
  preadv2(fd: number, iovec: number, count: number, offset: number, flags: number): number;
  posixFadvise(fd: number, offset: number, length: number, advice: number): number;
  /** Does nothing if the C library lacks it. */
  mallocTrim(): void;
  /** As mallopt(3); does nothing if the C library lacks it. */
  mallocOption(parameter: number, value: number): void;
  /** `address` from addressOf(). */
  recv(fd: number, address: number | bigint, length: number, flags: number): number;
  /** `iovec` is an address. */
  writev(fd: number, iovec: number, count: number): number;
  pread(fd: number, address: number, length: number, offset: number): number;
  pwrite(fd: number, address: number, length: number, offset: number): number;
  /** An address, or undefined where it failed. `address` 0 lets the kernel choose one. */
  mmap(
    address: number,
    length: number,
    protection: number,
    flags: number,
    fd: number,
    offset: number,
  ): number | undefined;
  munmap(address: number, length: number): number;
  /** The memory at an address as a buffer: for memory shared with the kernel. */
  viewOf(address: number, length: number): ArrayBuffer;
  /** A system call that the C library has no function for. */
  syscall(number: number, a: number, b: number, c: number, d: number, e: number): number;
  /** `pages` takes a byte for each page. */
  mincore(address: number, length: number, pages: Uint8Array): number;
  /** `usage` is a struct rusage. */
  getrusage(who: number, usage: Uint8Array): number;
  /** Closed on exec. Negative if the C library or the kernel has no such files. */
  memfdCreate(name: string): number;
  /** Names of a directory, as the kernel gives them; -1 where the C library has no such call. */
  getdents(fd: number, list: Uint8Array): number;
  /** renameat2(2) with RENAME_NOREPLACE; paths as Node takes them. -1 where the C library has no such call. */
  renameNoReplace(from: string, to: string): number;
  /** The address of a buffer's bytes; it is valid while the buffer is referenced. */
  addressOf(buffer: ArrayBuffer): number | bigint;
}

/** 64-bit Linux only: there `off_t` and `struct flock` have one layout whatever the C library. */
const SUPPORTED =
  process.platform === "linux" && ["x64", "arm64", "ppc64", "s390x", "riscv64", "loong64"].includes(process.arch);

const MFD_CLOEXEC = 1;
const AT_FDCWD = -100;
const RENAME_NOREPLACE = 1;

/** No mapping is beyond this on any 64-bit machine; mmap's error value is. */
const ADDRESSES_END = 2 ** 52;

let loaded: Libc | null | undefined;

/** The C library, or null if native calls are unavailable. Loaded at the first call (about 10 ms). */
export function libc(): Libc | null {
  if (loaded === undefined) loaded = SUPPORTED && !process.env["COWTOOL_NO_FFI"] ? bind() : null;
  return loaded;
}

/** Calls that are bound as C declares them. Integers that a double holds come as numbers. */
const DECLARED = {
  lseek: "int64_t lseek(int fd, int64_t offset, int whence)",
  fallocate: "int fallocate(int fd, int mode, int64_t offset, int64_t length)",
  syncFileRange: "int sync_file_range(int fd, int64_t offset, int64_t length, unsigned int flags)",
  shutdown: "int shutdown(int fd, int how)",
  socket: "int socket(int domain, int type, int protocol)",
  socketpair: "int socketpair(int domain, int type, int protocol, void *fds)",
  recv: "int64_t recv(int fd, uintptr_t buffer, size_t length, int flags)",
  writev: "int64_t writev(int fd, uintptr_t iovec, int count)",
  pread: "int64_t pread(int fd, uintptr_t buffer, size_t length, int64_t offset)",
  pwrite: "int64_t pwrite(int fd, uintptr_t buffer, size_t length, int64_t offset)",
  syscall: "int64_t syscall(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)",
  munmap: "int munmap(uintptr_t address, size_t length)",
  mincore: "int mincore(uintptr_t address, size_t length, void *pages)",
  getrusage: "int getrusage(int who, void *usage)",
  posixFadvise: "int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)",
} as const satisfies Partial<Record<keyof Libc, string>>;

function bind(): Libc | null {
  try {
    const koffi = createRequire(import.meta.url)("koffi") as typeof import("koffi");
    const lib = koffi.load(null);
    /** A function that some C libraries lack (musl, for one): then its answer is -1. */
    const optional = (declaration: string): ((...args: unknown[]) => number) => {
      try {
        return lib.func(declaration);
      } catch {
        return () => -1;
      }
    };
    const copyFileRange = lib.func(
      "int64_t copy_file_range(int fd_in, void *off_in, int fd_out, void *off_out, size_t length, unsigned int flags)",
    );
    const ioctl = lib.func("int ioctl(int fd, unsigned long request, ...)");
    const fcntl = lib.func("int fcntl(int fd, int command, ...)");
    const setsockopt = lib.func("int setsockopt(int fd, int level, int name, const void *value, unsigned int length)");
    const mmap = lib.func(
      "uintptr_t mmap(uintptr_t address, size_t length, int protection, int flags, int fd, int64_t offset)",
    );
    const poll = lib.func("int poll(void *fds, unsigned long count, int timeout)");
    const strerror = lib.func("const char *strerror(int errnum)");
    const memfdCreate = optional("int memfd_create(const char *name, unsigned int flags)");
    const getdents = optional("int64_t getdents64(int fd, void *list, size_t length)");
    const renameat2 = optional(
      "int renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned int flags)",
    );
    const mallocTrim = optional("int malloc_trim(size_t pad)");
    const declared = Object.entries(DECLARED).map(([name, declaration]) => [name, lib.func(declaration)]);
    return {
      ...(Object.fromEntries(declared) as Pick<Libc, keyof typeof DECLARED>),
      errno: () => koffi.errno(),
      describe: (errno) => String(strerror(errno)).toLowerCase(),
      copyFileRange: (fdIn, offIn, fdOut, offOut, length) => copyFileRange(fdIn, offIn, fdOut, offOut, length, 0),
      ioctlNumber: (fd, request, value) => ioctl(fd, request, "long", value),
      ioctlBuffer: (fd, request, buffer) => ioctl(fd, request, "void *", buffer),
      fcntlBuffer: (fd, command, buffer) => fcntl(fd, command, "void *", buffer),
      fcntlNumber: (fd, command, value) => fcntl(fd, command, "long", value),
      setsockopt: (fd, level, name, value) => setsockopt(fd, level, name, value, value.length),
      mmap: (...args) => {
        const got = Number(mmap(...args));
        return got < ADDRESSES_END ? got : undefined;
      },
      viewOf: (address, length) => koffi.view(BigInt(address), length),
      // musl has no preadv2: then every read takes the plain way.
      preadv2: optional("int64_t preadv2(int fd, uintptr_t iovec, int count, int64_t offset, int flags)"),
      pollNow: (fds, count) => poll(fds, count, 0),
      mallocOption: optional("int mallopt(int parameter, int value)"),
      mallocTrim: () => void mallocTrim(0),
      memfdCreate: (name) => memfdCreate(name, MFD_CLOEXEC),
      getdents: (fd, list) => getdents(fd, list, list.length),
      renameNoReplace: (from, to) => renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE),
      addressOf: (buffer) => koffi.address(buffer),
    };
  } catch {
    return null;
  }
}

/** A CowError for the errno of a call that just failed. */
export function libcError(c: Libc, file: string, doing: string): CowError {
  const errno = c.errno();
  const code =
    errno === Errno.ENOSPC ? "no-space" : errno === Errno.EACCES || errno === Errno.EPERM ? "permission" : "io";
  return new CowError(code, `${doing}: ${c.describe(errno)}`, { file, details: { errno: getSystemErrorName(-errno) } });
}
