/**
 * Owns the library's public face: what `import … from "cowtool"` gives. See docs/library.md.
 */

export type { ByteSource, ByteTarget, Place, ReadAhead } from "./bytes/byte-source.ts";
export { type Extent, ExtentList } from "./bytes/extent.ts";
export { formatSize, parseSize } from "./bytes/size.ts";
export type { FieldKind, MachineModel, PlacedField, StructLayout } from "./bytes/struct.ts";
export type { Notice, OperationContext, Progress } from "./context.ts";
export { type ConnectOptions, ControlClient, connect, type EventsOptions } from "./control/client.ts";
export type {
  AddRequest,
  AllStatsDocument,
  CheckpointDocument,
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
  PartDocument,
  ServerDocument,
  ShownDocument,
  StatsDocument,
} from "./control/documents.ts";
export type {
  CheckpointedDocument,
  CheckpointRequestDocument,
  ForkedDocument,
  ForkRequestDocument,
  RollbackRequestDocument,
  RolledBackDocument,
  SquashRequestDocument,
} from "./control/history-documents.ts";
export { type ServeRequest, serve } from "./control/serve.ts";
export type { BlockDevice, LocalFile, OnCacheMiss, RemoteExport } from "./device/block-device.ts";
export { FileDevice } from "./device/file-device.ts";
export type { KnownLength } from "./device/known-length.ts";
export { type DeviceChange, MemoryDevice, SparseBytes } from "./device/memory-device.ts";
export { MemoryStorage, type StorageChange } from "./device/memory-storage.ts";
export { nodeStorage } from "./device/node-storage.ts";
export { RemoteDevice, type RemoteOptions } from "./device/remote/remote-device.ts";
export type { Remembered, RememberedPart } from "./device/remote/sameness.ts";
export type {
  CreateOptions,
  FileFacts,
  FileKind,
  FileStamp,
  OpenOptions,
  PendingFile,
  RemoveOptions,
  RenameOptions,
  Storage,
} from "./device/storage.ts";
export type { DeviceKey } from "./device/sys/device-key.ts";
export type { LockMode } from "./device/sys/lock-file.ts";
export { CowError, type CowErrorOptions, ERROR_CODES, type ErrorCode, type ErrorDetails } from "./errors.ts";
export {
  type Contribution,
  type Fingerprint,
  type FingerprintOptions,
  type FingerprintOverride,
  takeFingerprint,
} from "./formats/cowfile/fingerprint.ts";
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
export type {
  AsideFile,
  BaseIdentity,
  CheckOptions,
  CheckReport,
  CleanState,
  Companions,
  Fact,
  ImageFacts,
  Layer,
  Layered,
  LayerFormat,
  OpenLayerOptions,
  PartOptions,
  PlacedSource,
  Problem,
  ProblemTally,
  Remarks,
  RepairOptions,
  RepairReport,
  Setting,
  Severity,
  SurveyHooks,
  Suspect,
} from "./formats/format.ts";
export { LOSSES, type Loss, type LossId } from "./formats/losses.ts";
export { detectFormat, layerFormats, type WrittenId } from "./formats/registry.ts";
export type { ExportState } from "./nbd/server/live-export.ts";
export type { ExportRequest, Ready, ReadyExport } from "./nbd/server/serve-request.ts";
export type { TlsRequest } from "./nbd/server/tls-config.ts";
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
export type { GivenStack } from "./operations/files.ts";
export { hash } from "./operations/hash.ts";
export { HASH_DIGESTS, type HashDigest, type HashRequest, type HashResult } from "./operations/hash-request.ts";
export { type CheckpointRequest, type CheckpointResult, checkpoint } from "./operations/history/checkpoint.ts";
export { type DropResult, drop } from "./operations/history/drop.ts";
export { type ForkRequest, type ForkResult, fork } from "./operations/history/fork.ts";
export { layersToRepair } from "./operations/history/layers-to-repair.ts";
export { type RollbackRequest, type RollbackResult, rollback } from "./operations/history/rollback.ts";
export {
  type SquashChainRequest,
  type SquashChainResult,
  type SquashedRun,
  squashChain,
} from "./operations/history/squash-chain.ts";
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
export type { StreamSink } from "./operations/pack/streams.ts";
export { type UnpackRequest, unpack } from "./operations/pack/unpack.ts";
export { type RebaseRequest, type RebaseResult, rebase } from "./operations/rebase.ts";
export { type RepairRequest, repair } from "./operations/repair.ts";
export { type ResizeRequest, type ResizeResult, resize } from "./operations/resize.ts";
export { type SquashRequest, type SquashResult, squash } from "./operations/squash.ts";
export { mergeSiblings, type Preferred, type ThreeWayRequest, type ThreeWayResult } from "./operations/three-way.ts";
export {
  type BaseReport,
  type FingerprintResult,
  type VerifyRequest,
  verifyFingerprint,
} from "./operations/verify-fingerprint.ts";
export type { Access } from "./stack/live/access.ts";
export { type OpenStackOptions, openStack, type Stack } from "./stack/open.ts";
export type { OpenPart } from "./stack/open-part.ts";
export { Overlay } from "./stack/overlay.ts";
export type { Checkpoint, Listed, StackPart } from "./stack/part.ts";
export { parseStack, StackSpec } from "./stack/spec.ts";
export type { LayerPart, Pending, StackDocument } from "./stack/stack-document.ts";
export type { StackFile } from "./stack/stack-file.ts";
