/**
 * Owns certificates for tests with other people's clients, made by GnuTLS's own tools: directories as libnbd, QEMU and
 * cowtool look for them.
 */
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { client } from "./programs.ts";

export interface Pki {
  /** server-cert.pem and server-key.pem, no more. */
  readonly server: string;
  /** The same, and ca-cert.pem: clients need certificates. */
  readonly serverAsksClients: string;
  /** A client's: ca-cert.pem only. */
  readonly trusting: string;
  /** A client's, with a certificate of that authority. */
  readonly known: string;
  /** A client's, with a certificate of another authority. */
  readonly stranger: string;
}

const TEMPLATES = {
  ca: ['cn = "an authority"', "ca", "cert_signing_key"],
  server: [
    ...['cn = "localhost"', 'dns_name = "localhost"', 'ip_address = "127.0.0.1"'],
    ...["tls_www_server", "signing_key", "encryption_key"],
  ],
  client: ['cn = "a client"', "tls_www_client", "signing_key", "encryption_key"],
} as const;

/** Makes everything in `directory`, which must not exist. */
export async function makePki(directory: string): Promise<Pki> {
  const at = (name: string): string => join(directory, name);
  const pki = {
    server: at("server"),
    serverAsksClients: at("server-asks"),
    trusting: at("trusting"),
    known: at("known"),
    stranger: at("stranger"),
  };
  const [ours, theirs] = [at("ours"), at("theirs")];
  for (const made of [directory, ours, theirs, ...Object.values(pki)]) mkdirSync(made);
  for (const authority of [ours, theirs]) {
    await makeCertificate(authority, "ca");
    await makeCertificate(authority, "client");
  }
  await makeCertificate(ours, "server");
  place(ours, pki.server, "server-cert.pem", "server-key.pem");
  place(ours, pki.serverAsksClients, "server-cert.pem", "server-key.pem", "ca-cert.pem");
  place(ours, pki.trusting, "ca-cert.pem");
  place(ours, pki.known, "ca-cert.pem", "client-cert.pem", "client-key.pem");
  place(ours, pki.stranger, "ca-cert.pem");
  place(theirs, pki.stranger, "client-cert.pem", "client-key.pem");
  return pki;
}

async function makeCertificate(directory: string, role: keyof typeof TEMPLATES): Promise<void> {
  const file = (name: string): string => join(directory, name);
  const [key, template] = [file(`${role}-key.pem`), file(`${role}.template`)];
  writeFileSync(template, `${TEMPLATES[role].join("\n")}\n`);
  await client("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", key);
  const by = ["--load-ca-certificate", file("ca-cert.pem"), "--load-ca-privkey", file("ca-key.pem")];
  await client(
    "certtool",
    ...(role === "ca" ? ["--generate-self-signed"] : ["--generate-certificate", ...by]),
    ...["--load-privkey", key, "--template", template, "--outfile", file(`${role}-cert.pem`)],
  );
}

function place(from: string, to: string, ...names: readonly string[]): void {
  for (const name of names) copyFileSync(join(from, name), join(to, name));
}
