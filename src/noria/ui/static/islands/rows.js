// A table walked by keys: j and k, x to select, / to the filter; what is selected stays so from page to page.
const rows = () => [...document.querySelectorAll("[data-row]")];
const link = (row) => row.querySelector("th a");
const box = (row) => row?.querySelector("input[type=checkbox]");
let here = null; // address of the row that the keys stand on

function stand(row) {
  if (!row) return;
  document.querySelector("tr.here")?.classList.remove("here");
  row.classList.add("here");
  here = link(row).getAttribute("href");
  link(row).focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

const current = () => rows().find((row) => link(row).getAttribute("href") === here);

function step(by) {
  const all = rows();
  const at = all.indexOf(current());
  stand(all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)]);
}

// -- what is selected

const form = document.querySelector("form[data-compare]");
const drawer = `noria-selected-${location.pathname}`;
const MOST = 50;
let selected = new Set();
try {
  selected = new Set(JSON.parse(sessionStorage.getItem(drawer) ?? "[]"));
} catch {
  // storage is switched off: what is selected lasts for this page
}

function show() {
  if (!form) return;
  for (const one of form.querySelectorAll("input[name=run]")) {
    one.checked = selected.has(one.value);
    one.closest("tr").classList.toggle("picked", one.checked);
  }
  const limit = selected.size > MOST ? `, at most ${MOST} can be compared` : "";
  form.querySelector("[data-chosen]").textContent = selected.size ? `${selected.size} selected${limit}` : "Select runs to compare";
  form.querySelector("[data-clear]").hidden = selected.size === 0;
  form.querySelector("[type=submit]").disabled = selected.size < 2 || selected.size > MOST;
  try {
    sessionStorage.setItem(drawer, JSON.stringify([...selected]));
  } catch {
    // as above
  }
}

function set(one, on) {
  if (on) selected.add(one.value);
  else selected.delete(one.value);
}

const compare = () => {
  if (selected.size < 2 || selected.size > MOST) return;
  location.assign(`/runs/compare?${[...selected].map((id) => `run=${encodeURIComponent(id)}`).join("&")}`);
};

if (form) {
  let last = null;
  form.addEventListener("click", (event) => {
    const one = event.target.closest("input[name=run]");
    if (!one) return;
    const boxes = [...form.querySelectorAll("input[name=run]")];
    const from = boxes.findIndex((each) => each.value === last);
    const to = boxes.indexOf(one);
    if (event.shiftKey && from >= 0) boxes.slice(Math.min(from, to), Math.max(from, to) + 1).forEach((each) => set(each, one.checked));
    else set(one, one.checked);
    last = one.value;
    show();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    compare();
  });
  form.querySelector("[data-clear]").addEventListener("click", () => {
    selected.clear();
    show();
  });
  show();
}

document.addEventListener("noria:swap", () => {
  show();
  current()?.classList.add("here");
});

const keys = {
  j: () => step(1),
  k: () => step(-1),
  x: () => {
    const one = box(current());
    if (!one || !form) return;
    set(one, !selected.has(one.value));
    show();
  },
  c: () => form && compare(),
  u: () => {
    selected.clear();
    show();
  },
  n: () => document.querySelector("a[rel=next]")?.click(),
  "/": () => document.querySelector("[data-filter]")?.select(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (!(event.key in keys) || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  keys[event.key]();
});
