// Keeps a page up to date: looks at its JSON twin, and when that has changed swaps the parts marked data-live.
const EVERY = 2000;
const SLOWEST = 30000; // between looks while the server is away; and "3 min ago" is no older than this
let tag = "";
let pause = EVERY;
let usual = EVERY;
let drawnAt = Date.now();
let timer = 0;

const open = (part) => [...part.querySelectorAll("details")].map((one) => one.open);
const ticked = (part) => new Set([...part.querySelectorAll("input:checked")].map((one) => one.value));

function swap(old, fresh) {
  if (old.isEqualNode(fresh) || old.contains(document.activeElement?.closest("input:not([type=checkbox]), textarea, select"))) return;
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

// What the twin says now; null while that has not changed.
async function changed() {
  const headers = { accept: "application/json" };
  if (tag) headers["if-none-match"] = tag;
  const path = location.pathname === "/" ? "/.json" : `${location.pathname}.json`;
  const answer = await fetch(path + location.search, { headers, cache: "no-store" });
  if (answer.status === 304) return null;
  if (!answer.ok) throw new Error(String(answer.status));
  const first = tag === "";
  tag = answer.headers.get("etag") ?? "";
  const twin = await answer.json();
  usual = (twin.poll_seconds ?? EVERY / 1000) * 1000;
  return { first, twin };
}

// Charts that have come since are given a place; false when they have none here.
function grow(page) {
  for (const grid of page.querySelectorAll(".chart-grid")) {
    const old = document.getElementById(grid.id);
    for (const figure of grid.querySelectorAll("[data-island]")) {
      if (document.querySelector(`[data-island][data-chart="${CSS.escape(figure.dataset.chart)}"]`)) continue;
      if (!old) return false;
      old.append(document.importNode(figure, true));
      document.querySelector("[data-until-charts]")?.remove();
    }
  }
  return true;
}

async function refresh() {
  const news = await changed();
  if (!news && Date.now() - drawnAt < SLOWEST) return;
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
  if (!answer.ok) throw new Error(String(answer.status));
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  drawnAt = Date.now();
  if (!grow(page)) {
    location.reload(); // the first window has come: its chart needs a place
    return;
  }
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (fresh) swap(old, document.importNode(fresh, true));
  }
  document.dispatchEvent(new Event("noria:swap"));
  if (news && !news.first) document.dispatchEvent(new CustomEvent("noria:fresh", { detail: news.twin }));
}

async function tick() {
  clearTimeout(timer);
  if (document.hidden) return; // looked at again when it is shown
  try {
    await refresh();
    pause = usual;
    document.body.classList.remove("stale");
  } catch {
    pause = Math.min(Math.max(pause, EVERY) * 2, SLOWEST); // the server is away: ask less and less often
    document.body.classList.add("stale");
  }
  clearTimeout(timer);
  timer = setTimeout(tick, pause);
}

document.addEventListener("visibilitychange", () => document.hidden || tick());
timer = setTimeout(tick, EVERY);
