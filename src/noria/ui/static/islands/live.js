// Keeps a page up to date: asks for it again, and swaps the parts marked data-live that have changed.
const EVERY = 2000;
const SLOWEST = 30000;
let tag = "";
let pause = EVERY;

const open = (part) => [...part.querySelectorAll("details")].map((one) => one.open);
const ticked = (part) => new Set([...part.querySelectorAll("input:checked")].map((one) => one.value));

function swap(old, fresh) {
  if (old.isEqualNode(fresh) || old.contains(document.activeElement?.closest("input, textarea, select"))) return;
  const wasOpen = open(old);
  const wasTicked = ticked(old);
  const focused = old.contains(document.activeElement) ? document.activeElement?.getAttribute("href") : null;
  const scrolled = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  if (old.tagName === "DETAILS") fresh.open = old.open;
  const left = old.scrollLeft;
  old.replaceWith(fresh);
  fresh.scrollLeft = left;
  fresh.querySelectorAll("details").forEach((one, i) => (one.open = wasOpen[i] ?? false));
  fresh.querySelectorAll(".scroll").forEach((one, i) => (one.scrollLeft = scrolled[i] ?? 0));
  fresh.querySelectorAll("input[type=checkbox]").forEach((one) => (one.checked = wasTicked.has(one.value)));
  if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

async function refresh() {
  const headers = { accept: "text/html" };
  if (tag) headers["if-none-match"] = tag;
  const answer = await fetch(location.href, { headers, cache: "no-store" });
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error(String(answer.status));
  const first = tag === "";
  tag = answer.headers.get("etag") ?? "";
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const charts = (where) => where.querySelectorAll("[data-island]").length;
  if (charts(page) !== charts(document)) {
    location.reload(); // the first window has come, or a metric more: its chart needs a place
    return;
  }
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (fresh) swap(old, document.importNode(fresh, true));
  }
  if (!first) document.dispatchEvent(new Event("noria:fresh"));
}

async function tick() {
  if (!document.hidden) {
    try {
      await refresh();
      pause = EVERY;
      document.body.classList.remove("stale");
    } catch {
      pause = Math.min(pause * 2, SLOWEST); // the server is away: ask less and less often
      document.body.classList.add("stale");
    }
  }
  setTimeout(tick, pause);
}

setTimeout(tick, EVERY);
