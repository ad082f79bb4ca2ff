/**
 * Owns `serve` as the library offers it: a server, and beside it, if that is asked for, its control socket and its state.
 */
import type { OperationContext } from "../context.ts";
import { serveExports } from "../nbd/server/serve.ts";
import type { ServeRequest as BareRequest } from "../nbd/server/serve-request.ts";
import type { ControlRequest } from "./attendant.ts";

/** What `serve` is asked for. */
export interface ServeRequest extends BareRequest, ControlRequest {}

/**
 * Serves until `context.signal` fires, a caller of the control socket stops it, or, if requested, the last client has left;
 * then ends in order: pending requests are answered, everything is made durable, cowfiles are marked clean. With a control
 * socket, a state directory or a page it may start without exports.
 *
 * @throws CowError as opening the stacks does; `usage`; `locked` (the state directory is another server's); `damaged` (what
 * is kept there); `io` (address in use; something could not be made durable at the end)
 */
export async function serve(request: ServeRequest, context: OperationContext = {}): Promise<void> {
  const { control, state, dashboard, onEvent } = request;
  const isAttended = control !== undefined || state !== undefined || dashboard !== undefined || onEvent !== undefined;
  if (!isAttended) return serveExports(request, context);
  const { ControlAttendant } = await import("./attendant.ts");
  const attendant = new ControlAttendant(request, context);
  const onNotice: OperationContext["onNotice"] = (notice) => {
    context.onNotice?.(notice);
    attendant.notice(notice);
  };
  try {
    await serveExports(request, { ...context, onNotice }, attendant);
  } finally {
    attendant.close();
  }
}
