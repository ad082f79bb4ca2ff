/**
 * Owns what the page can do, and its token: it comes in the address behind `#`, which no server is sent, and stays in this
 * tab. Without it the page only shows.
 */
import { byId, el, setText } from "./dom.ts";
import { segment, shownName } from "./format.ts";

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

/** @param name undefined for all exports */
export function syncButton(name: string | undefined): HTMLButtonElement {
  const button = el("button", { type: "button", class: "action" }, name === undefined ? "Sync all" : "Sync");
  const what = name === undefined ? "Everything that was answered" : `What was answered for ${shownName(name)}`;
  const token = sessionStorage.getItem(KEPT);
  if (token === null) {
    button.disabled = true;
    button.title = "This needs the token: `cowtool ctl dashboard` prints the address with it";
    return button;
  }
  button.title = "Makes everything that was answered durable in the cowfile itself";
  button.addEventListener("click", () => {
    button.disabled = true;
    const query = name === undefined ? "" : `?${new URLSearchParams({ name: segment(name) })}`;
    fetch(`sync${query}`, { method: "POST", headers: { authorization: `Bearer ${token}` } })
      .then(async (response) => {
        const { error } = (await response.json()) as { readonly error?: { readonly message: string } };
        say(error ? `Not synced: ${error.message}` : `${what} is durable, ${new Date().toLocaleTimeString()}.`);
      })
      .catch(() => say("Not synced: the server does not answer."))
      .finally(() => {
        button.disabled = false;
      });
  });
  return button;
}
