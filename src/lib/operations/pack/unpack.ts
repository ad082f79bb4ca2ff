/**
 * Owns `unpack`: a pack of any kind, told by its content, back into the cowfile it was made from.
 */
import { availableParallelism } from "node:os";
import type { ByteSource, ByteTarget } from "../../bytes/byte-source.ts";
import { interrupted, makeYielder, type OperationContext } from "../../context.ts";
import { CowError } from "../../errors.ts";
import { type PackKind, requirePack } from "../../formats/cowfile/pack/kind.ts";
import { type Unpacked, unpackInto } from "../../formats/cowfile/pack/open-pack.ts";
import { claimOutput } from "../../output/claim.ts";
import { OpenFiles, refuseSameFile } from "../files.ts";
import { type PackRequest, type PackResult, requireThreads } from "./request.ts";
import { pourOut, spool } from "./streams.ts";

/** What `unpack` is asked for. */
export type UnpackRequest = Pick<PackRequest, "threads" | "force" | "replace" | "streams">;

/**
 * Unpacks `packfile` into `cowfile`, which appears whole, or not at all; either may be `-` if the request brings the
 * stream for it. Into a new file the result is byte for byte what was packed, but for what a pack has no place for.
 *
 * @throws CowError `bad-head`, `unsuitable` (not packed), `truncated`, `damaged`, `unsupported`, `exists`, `usage`,
 *   `locked`, `io`, `no-space`, `interrupted`
 */
export async function unpack(
  packfile: string,
  cowfile: string,
  request: UnpackRequest = {},
  context: OperationContext = {},
): Promise<PackResult> {
  return OpenFiles.during(context, async (files) => {
    const { streams, threads } = request;
    requireThreads(threads);
    if (packfile === "-" && !streams?.input)
      throw new CowError("usage", "there is no stream to read from", { file: "-" });
    if (cowfile === "-" && !streams?.output)
      throw new CowError("usage", "there is no stream to write to", { file: "-" });
    const source =
      packfile === "-" && streams?.input
        ? files.keep(await spool(files.storage, streams.input, context.signal))
        : files.open(packfile, { lock: "shared" });
    const kind = requirePack(source);
    const result = ({ blocks }: Unpacked, bytesOut: number): PackResult => ({
      cowfile,
      packfile,
      format: kind,
      blocks,
      bytes_in: source.sizeBytes,
      bytes_out: bytesOut,
    });
    if (cowfile === "-" && streams?.output) {
      const scratch = files.scratch(cowfile);
      const unpacked = await run(scratch, source, kind, request, context);
      await pourOut(scratch, streams.output, context.signal);
      return result(unpacked, scratch.sizeBytes);
    }
    refuseSameFile(files.storage, cowfile, [packfile]);
    claimOutput(files, cowfile, request, "cowfile");
    return files.write(cowfile, [packfile], request, async (device) => {
      const unpacked = await run(device, source, kind, request, context);
      return result(unpacked, device.sizeBytes);
    });
  });
}

async function run(
  target: ByteTarget,
  source: ByteSource,
  kind: PackKind,
  request: UnpackRequest,
  context: OperationContext,
): Promise<Unpacked> {
  const yieldToEventLoop = makeYielder();
  const unpacked = await unpackInto(target, source, kind, {
    concurrency: request.threads ?? availableParallelism(),
    onPiece: (done, total) => {
      if (context.signal?.aborted) throw interrupted(target.name, "it was not created");
      context.onProgress?.({ phase: "unpacking", done, total: Math.max(done, total), unit: "bytes" });
      return yieldToEventLoop();
    },
  });
  if (unpacked.usedInHead !== BigInt(unpacked.blocks)) {
    const message = `its head counts ${unpacked.usedInHead} used blocks, but ${unpacked.blocks} are allocated: \`cowtool repair\` recounts them in what was unpacked`;
    context.onNotice?.({ severity: "warning", file: source.name, message });
  }
  if (unpacked.trailingBytes > 0) {
    context.onNotice?.({
      severity: "warning",
      file: source.name,
      message: `its last ${unpacked.trailingBytes} bytes belong to no block, and were left out`,
    });
  }
  return unpacked;
}
