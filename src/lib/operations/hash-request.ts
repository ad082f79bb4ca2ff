/**
 * Owns what `hash` is asked and what it answers.
 */

export const HASH_DIGESTS = ["sha256", "sha512", "sha1", "blake2b512", "blake2s256", "sha3-256"] as const;
/** A digest that `hash` can be made of. */
export type HashDigest = (typeof HASH_DIGESTS)[number];

/** What `hash` is asked for. */
export interface HashRequest {
  /** Default sha256. */
  readonly digest?: HashDigest | undefined;
  /** A power of two; default 64 KiB. Another one gives another checksum. */
  readonly blockBytes?: number | undefined;
}

/** The checksum of an image. */
export interface HashResult {
  readonly stack: string;
  readonly algorithm: "blkhash";
  readonly digest: HashDigest;
  readonly block_size: number;
  readonly virtual_size: number;
  /** In hex. */
  readonly hash: string;
  /** The other bytes are in holes. */
  readonly bytes_read: number;
}
