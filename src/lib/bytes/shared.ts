/**
 * Owns the type of arrays in memory that threads share. Not `Uint8Array<SharedArrayBuffer>`: users of the library may have an
 * older TypeScript, in which such arrays have no parameter.
 */

export type Shared<Kind extends ArrayBufferView> = Kind & { readonly buffer: SharedArrayBuffer };
