// Runs before the page is painted, so that a remembered theme does not flash.
"use strict";
(() => {
  try {
    const kept = localStorage.getItem("noria-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch {
    // storage is switched off: the system's choice stands
  }
})();
