"use strict";

// A cell sorts by its data-v, a number; without one by its text, as a number where it is one.
// Empty cells come last both ways.
function value(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.v !== undefined) return cell.dataset.v === "" ? null : Number(cell.dataset.v);
  const text = cell.textContent.trim(), number = Number(text.replaceAll(",", ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function closeAll(table) {
  for (const open of table.querySelectorAll(".open[aria-expanded=true]")) open.click();
}

function sortBy(header) {
  const table = header.closest("table"), body = table.tBodies[0];
  closeAll(table);
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const keyed = [...body.rows].map(row => [value(row, header.cellIndex), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true });
    return up ? order : -order;
  });
  body.append(...keyed.map(([, row]) => row));
}

// A row stays if it has every word; a word with a minus before it must not be there.
function filter(input) {
  const table = document.getElementById(input.getAttribute("aria-controls"));
  closeAll(table);
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(w => w.length > 1 && w[0] === "-" ? !text.includes(w.slice(1)) : text.includes(w));
    shown += !row.hidden;
  }
  input.closest(".tools").querySelector("output").textContent =
    `${shown} of ${table.tBodies[0].rows.length} rows`;
}

const root = document.documentElement;
function theme(name) {
  if (name) root.dataset.theme = name; else delete root.dataset.theme;
  document.getElementById("theme").textContent = `theme: ${name || "as the system"}`;
}
function remember(name) {
  try { localStorage.setItem("cvperf-theme", name); } catch { /* no storage for this page */ }
}
function remembered() {
  try { return localStorage.getItem("cvperf-theme") || ""; } catch { return ""; }
}

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.closest("thead")) sortBy(button.closest("th"));
  if (button.id === "theme") {
    const next = { "": "dark", dark: "light", light: "" }[root.dataset.theme || ""];
    theme(next);
    remember(next);
  }
});
document.addEventListener("input", event => {
  if (event.target.matches(".tools input")) filter(event.target);
});
for (const tools of document.querySelectorAll(".tools")) tools.hidden = false;
document.getElementById("theme").hidden = false;
theme(remembered());
