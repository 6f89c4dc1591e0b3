// What every page has: the theme button, keyboard shortcuts, the JSON link with this page's query.
const root = document.documentElement;
const themes = ["system", "light", "dark"];
const words = { system: "Auto", light: "Light", dark: "Dark" };

const button = document.querySelector("button.theme");
const show = () => {
  const now = root.dataset.theme ?? "system";
  button.querySelector(".theme-word").textContent = words[now];
  button.setAttribute("aria-label", `Theme: ${words[now]}`);
  button.title = "Light, dark, or as the system";
};
button.hidden = false;
show();
button.addEventListener("click", () => {
  const next = themes[(themes.indexOf(root.dataset.theme ?? "system") + 1) % themes.length];
  if (next === "system") delete root.dataset.theme;
  else root.dataset.theme = next;
  try {
    if (next === "system") localStorage.removeItem("noria-theme");
    else localStorage.setItem("noria-theme", next);
  } catch {
    // storage is switched off: the choice lasts for this page
  }
  show();
  document.dispatchEvent(new Event("noria:theme"));
});

const places = { l: "", r: "/runs", m: "/models", p: "/predictions", d: "/data", o: "/monitoring", t: "/turns" };
let waiting = 0;
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.target.closest("input:not([type=checkbox]), textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "g") {
    waiting = Date.now();
    return;
  }
  const loop = document.body.dataset.loop;
  if (Date.now() - waiting < 1200) {
    if (event.key === "h") location.assign("/");
    else if (event.key === "a") location.assign("/audit");
    else if (event.key === "e") location.assign("/experiments");
    else if (event.key === "m" && !loop) location.assign("/models");
    else if (loop && event.key in places) location.assign(loop + places[event.key]);
  }
  waiting = 0;
  if (event.key === "?") keys.showModal();
});

const keys = document.querySelector("dialog#keys");
const opener = document.querySelector("[data-keys]");
opener.hidden = false;
opener.addEventListener("click", () => keys.showModal());
keys.querySelector("[data-close]").addEventListener("click", () => keys.close());

// MLflow's clients print such addresses of what they logged.
const printed = location.pathname === "/" ? /^#\/experiments\/(\d+)(?:\/runs\/([\w-]+))?/.exec(location.hash) : null;
if (printed) location.replace(printed[2] ? `/runs/${printed[2]}` : `/experiments/${printed[1]}`);

const twin = document.querySelector("[data-twin]");
if (twin) twin.href += location.search;

document.querySelector(".tabs [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
