// The lines of tables that open; page.js sorts and filters.
const details = JSON.parse(document.getElementById("details").textContent);

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function describe(number, parent) {
  const about = details[number], section = element("section", undefined, parent);
  element("b", about.name, section);
  const list = element("dl", undefined, section);
  for (const [name, fact] of Object.entries({ call: about.shape, ...about.facts })) {
    if (!fact) continue;
    const pair = element("div", undefined, list);
    element("dt", name, pair);
    element("dd", fact, pair);
  }
  if (!about.command) return;
  const line = element("div", undefined, section);
  line.className = "command";
  const command = element("code", about.command, line);
  element("button", "copy", line).addEventListener("click", event => copy(command, event.target));
}

async function copy(from, button) {
  const chosen = getSelection();
  chosen.selectAllChildren(from);
  try {
    await navigator.clipboard.writeText(from.textContent);
    button.textContent = "copied";
  } catch {
    button.textContent = "selected";  // no clipboard for this page: the text is marked instead
  }
}

function toggleDetails(button) {
  const row = button.closest("tr"), open = button.getAttribute("aria-expanded") === "true";
  button.setAttribute("aria-expanded", String(!open));
  if (open) { row.nextElementSibling.remove(); return; }
  const cell = element("td", undefined, element("tr"));
  cell.colSpan = row.cells.length;
  const inner = element("div", undefined, cell);
  inner.className = "inner";
  for (const number of button.dataset.rows.split(" ")) describe(Number(number), inner);
  row.after(cell.parentElement);
}

document.addEventListener("click", event => {
  const button = event.target.closest("button.open");
  if (button) toggleDetails(button);
});
