/**
 * Owns the numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice project), for server and client alike.
 */

export const Magic = {
  /** "NBDMAGIC" */
  INIT: 0x4e42444d41474943n,
  /** "IHAVEOPT", before the handshake flags and before each option. */
  OPTION: 0x49484156454f5054n,
  OPTION_REPLY: 0x0003e889045565a9n,
  REQUEST: 0x25609513,
  EXTENDED_REQUEST: 0x21e41c71,
  SIMPLE_REPLY: 0x67446698,
  STRUCTURED_REPLY: 0x668e33ef,
  EXTENDED_REPLY: 0x6e8a278c,
} as const;

/** Flags of the server's greeting. */
export const Handshake = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

/** Flags of the client's answer. */
export const ClientFlag = { FIXED_NEWSTYLE: 1, NO_ZEROES: 2 } as const;

export const Option = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  PEEK_EXPORT: 4,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;

const ERROR = 0x8000_0000;

export const Reply = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: ERROR + 1,
  ERR_POLICY: ERROR + 2,
  ERR_INVALID: ERROR + 3,
  ERR_PLATFORM: ERROR + 4,
  ERR_TLS_REQD: ERROR + 5,
  ERR_UNKNOWN: ERROR + 6,
  ERR_SHUTDOWN: ERROR + 7,
  ERR_BLOCK_SIZE_REQD: ERROR + 8,
  ERR_TOO_BIG: ERROR + 9,
  ERR_EXT_HEADER_REQD: ERROR + 10,
} as const;

export const Info = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/** Transmission flags of an export. */
export const ExportFlag = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  ROTATIONAL: 1 << 4,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_RESIZE: 1 << 9,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
  BLOCK_STATUS_PAYLOAD: 1 << 12,
} as const;

export const Command = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const CommandFlag = {
  FUA: 1 << 0,
  NO_HOLE: 1 << 1,
  DF: 1 << 2,
  REQ_ONE: 1 << 3,
  FAST_ZERO: 1 << 4,
  PAYLOAD_LEN: 1 << 5,
} as const;

export const Chunk = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const;

export const ChunkFlag = { DONE: 1 } as const;

/** The only error numbers that may go over the wire. */
export const WireError = {
  NONE: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Flags of `base:allocation`. */
export const Allocation = { HOLE: 1, ZERO: 2 } as const;

/** Names of the meta contexts. */
export const Context = {
  ALLOCATION: "base:allocation",
  DEPTH: "qemu:allocation-depth",
  DIRTY: "qemu:dirty-bitmap:cowtool",
  /** The name of a checkpoint follows. */
  SINCE: "qemu:dirty-bitmap:since-",
} as const;

/** Strings are UTF-8 without NUL, at most this long. */
export const MAX_STRING_BYTES = 4096;
/** Bytes of a request's head: with compact and with extended headers. */
export const REQUEST_BYTES = 28;
export const EXTENDED_REQUEST_BYTES = 32;
/** The largest payload of a READ or WRITE that we serve and that we ask for. */
export const MAX_PAYLOAD_BYTES = 64 * 1024 * 1024;
/** Zeros after the answer to EXPORT_NAME, unless NO_ZEROES was agreed. */
export const EXPORT_NAME_PADDING_BYTES = 124;
/** The port that IANA gave to NBD. */
export const DEFAULT_PORT = 10809;
