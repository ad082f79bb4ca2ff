/**
 * Owns which addresses the page may be served at: those of this machine, and others only with a certificate.
 */
import { CowError } from "../../errors.ts";
import { isLoopback } from "../../nbd/server/listeners.ts";
import type { TlsRequest } from "../../nbd/server/tls-config.ts";

export interface DashboardAddress {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
}

/** @throws CowError `usage` for an address of others without a certificate; browsers know no pre-shared keys */
export function checkDashboard({ host }: DashboardAddress, tls: TlsRequest | undefined): void {
  if (isLoopback(host) || tls?.certificates !== undefined) return;
  throw new CowError("usage", `${host} can be reached by others: the page needs --tls-certificates there`, {
    hints: ["--dashboard 127.0.0.1:8080 is for this machine, and `ssh -L 8080:127.0.0.1:8080` brings it to yours"],
  });
}
