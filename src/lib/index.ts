/**
 * Owns the library's public face: what `import … from "cowtool"` gives. See docs/library.md.
 */

export type { ByteSource, ByteTarget } from "./bytes/byte-source.ts";
export { type Extent, ExtentList } from "./bytes/extent.ts";
export { formatSize, parseSize } from "./bytes/size.ts";
export type { Notice, OperationContext, Progress } from "./context.ts";
export { type ConnectOptions, ControlClient, connect, type EventsOptions } from "./control/client.ts";
export type {
  AddRequest,
  AllStatsDocument,
  ErrorDocument,
  EventDocument,
  ExportDocument,
  ExportsDocument,
  JobDocument,
  JobState,
  JobsDocument,
  LatencyDocument,
  LimitRequest,
  LimitsDocument,
  ServerDocument,
  ShownDocument,
  StatsDocument,
} from "./control/documents.ts";
export { type ServeRequest, serve } from "./control/serve.ts";
export type { BlockDevice } from "./device/block-device.ts";
export { FileDevice } from "./device/file-device.ts";
export { MemoryDevice, SparseBytes } from "./device/memory-device.ts";
export { MemoryStorage, type StorageChange } from "./device/memory-storage.ts";
export { nodeStorage } from "./device/node-storage.ts";
export { RemoteDevice, type RemoteOptions } from "./device/remote/remote-device.ts";
export type { CreateOptions, FileFacts, OpenOptions, PendingFile, RenameOptions, Storage } from "./device/storage.ts";
export { CowError, type ErrorCode, type ErrorDetails } from "./errors.ts";
export { type Fingerprint, takeFingerprint } from "./formats/cowfile/fingerprint.ts";
export { type CowHead, decodeHead, detectAbi, encodeHead, newHeadBlock } from "./formats/cowfile/head.ts";
export {
  ABI_NAMES,
  type CowAbi,
  dataOffsetFor,
  freshFileSize,
  headLayout,
  mapSizeFor,
} from "./formats/cowfile/layout.ts";
export { COW_PROBLEMS, type CowProblemId } from "./formats/cowfile/problems.ts";
export type { CheckReport, Layer, LayerFormat, Problem, RepairReport, Severity, Suspect } from "./formats/format.ts";
export { LOSSES, type Loss, type LossId } from "./formats/losses.ts";
export { detectFormat, layerFormats } from "./formats/registry.ts";
export type { ExportRequest, Ready } from "./nbd/server/serve-request.ts";
export { type CheckRequest, check, type PartReport, type StackReport } from "./operations/check.ts";
export { convert } from "./operations/convert/convert.ts";
export { type MeasureRequest, type MeasureResult, measure } from "./operations/convert/measure.ts";
export {
  CONVERT_FORMATS,
  type ConvertFormat,
  type ConvertRequest,
  type ConvertResult,
} from "./operations/convert/request.ts";
export { type CreateRequest, type CreateResult, create } from "./operations/create.ts";
export { type CreateStoreRequest, type CreateStoreResult, createStoreFile } from "./operations/create-store.ts";
export { diff } from "./operations/diff/diff.ts";
export type {
  Difference,
  DifferenceKind,
  DifferenceSample,
  DiffRequest,
  DiffResult,
} from "./operations/diff/request.ts";
export { hash } from "./operations/hash.ts";
export { HASH_DIGESTS, type HashDigest, type HashRequest, type HashResult } from "./operations/hash-request.ts";
export type { ChangedExtent, Hidden, Verdict } from "./operations/identity/judge.ts";
export { IDENTITY_MODES, type IdentityMode } from "./operations/identity/modes.ts";
export { type Info, type InfoOptions, type InfoResult, info, type MapExtent } from "./operations/info.ts";
export type { LinkFacts } from "./operations/info-chain.ts";
export { type InvertRequest, type InvertResult, invert } from "./operations/invert.ts";
export { type MapEntry, type MapResult, map } from "./operations/map.ts";
export { merge } from "./operations/merge/merge.ts";
export type { MergeQuestion, MergeRequest, MergeResult } from "./operations/merge/request.ts";
export { pack } from "./operations/pack/pack.ts";
export type { PackRequest, PackResult, Streams } from "./operations/pack/request.ts";
export { type UnpackRequest, unpack } from "./operations/pack/unpack.ts";
export { type RebaseRequest, type RebaseResult, rebase } from "./operations/rebase.ts";
export { type RepairRequest, repair } from "./operations/repair.ts";
export { type ResizeRequest, type ResizeResult, resize } from "./operations/resize.ts";
export { type SquashRequest, type SquashResult, squash } from "./operations/squash.ts";
export { mergeSiblings, type ThreeWayRequest, type ThreeWayResult } from "./operations/three-way.ts";
export {
  type BaseReport,
  type FingerprintResult,
  type VerifyRequest,
  verifyFingerprint,
} from "./operations/verify-fingerprint.ts";
export { openStack, type Stack } from "./stack/open.ts";
export { Overlay } from "./stack/overlay.ts";
export { parseStack, StackSpec } from "./stack/spec.ts";
