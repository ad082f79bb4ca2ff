/**
 * Owns what the page can do, and its token: it comes in the address behind `#`, which no server is sent, and stays in this
 * tab. Without it the page only shows.
 */
import { byId, el, setText } from "./dom.ts";
import { latency, segment, shownName, visible } from "./format.ts";

const KEPT = "cowtool-token";

/** Takes the token out of the address, so that it is in no history and no bookmark. @returns what else was behind `#` */
export function takeToken(): URLSearchParams {
  const given = new URLSearchParams(location.hash.slice(1));
  const token = given.get("token");
  if (token !== null) {
    sessionStorage.setItem(KEPT, token);
    given.delete("token");
    history.replaceState(null, "", given.size > 0 ? `#${given}` : location.pathname);
  }
  return given;
}

const SAID_MS = 8000;
let forgetting = 0;

/** Tells for a while what was done, also to screen readers. */
function say(text: string): void {
  setText(byId("said"), text);
  clearTimeout(forgetting);
  forgetting = setTimeout(() => setText(byId("said"), ""), SAID_MS);
}

/** Asks the server to do something, and tells the outcome. The button waits for that. */
function ask(
  button: HTMLButtonElement,
  token: string,
  path: string,
  not: string,
  done: (answer: Answer) => string,
): void {
  button.disabled = true;
  fetch(path, { method: "POST", headers: { authorization: `Bearer ${token}` } })
    .then(async (response) => {
      const answer = (await response.json()) as Answer;
      say(answer.error ? `${not}: ${visible(answer.error.message)}` : done(answer));
    })
    .catch(() => say(`${not}: the server does not answer.`))
    .finally(() => {
      button.disabled = false;
    });
}

interface Answer {
  readonly error?: { readonly message: string };
  readonly pause_ms?: number;
}

const NEEDS_TOKEN = "This needs the token: `cowtool ctl dashboard` prints the address with it";

/** @param name undefined for all exports */
export function syncButton(name: string | undefined): HTMLButtonElement {
  const button = el("button", { type: "button", class: "action" }, name === undefined ? "Sync all" : "Sync");
  const what = name === undefined ? "Everything that was answered" : `What was answered for ${shownName(name)}`;
  const token = sessionStorage.getItem(KEPT);
  if (token === null) {
    button.disabled = true;
    button.title = NEEDS_TOKEN;
    return button;
  }
  button.title = "Makes everything that was answered durable in the cowfile itself";
  button.addEventListener("click", () => {
    const query = name === undefined ? "" : `?${new URLSearchParams({ name: segment(name) })}`;
    ask(button, token, `sync${query}`, "Not synced", () => `${what} is durable, ${new Date().toLocaleTimeString()}.`);
  });
  return button;
}

/** A name and a button: freezes what an export shows now. */
export function checkpointForm(name: string): HTMLFormElement {
  const as = el("input", {
    type: "text",
    required: true,
    maxlength: 100,
    placeholder: "Name",
    "aria-label": "Name of the new checkpoint",
    autocomplete: "off",
    spellcheck: "false",
  });
  const button = el("button", { type: "submit", class: "action" }, "Checkpoint");
  const form = el("form", { class: "checkpoint-form", hidden: true }, as, button);
  const token = sessionStorage.getItem(KEPT);
  if (token === null) {
    as.disabled = true;
    button.disabled = true;
    button.title = NEEDS_TOKEN;
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const made = as.value.trim();
    if (token === null || made === "") return;
    const query = new URLSearchParams({ name: segment(name), as: made });
    ask(button, token, `checkpoint?${query}`, "No checkpoint", ({ pause_ms = 0 }) => {
      as.value = "";
      return `Checkpoint ${visible(made)} of ${shownName(name)}: requests waited ${latency(pause_ms * 1000)}.`;
    });
  });
  return form;
}
