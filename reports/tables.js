"use strict";
// Tables that are sorted by a click on a heading, or the Enter key, and downloaded as CSV.
const Tables = (() => {
  const UNITS = { ms: 0.001, s: 1, min: 60, h: 3600, kB: 1e3, MB: 1e6, GB: 1e9 };
  const COLLATOR = new Intl.Collator("en", { numeric: true });

  // the number that a cell is sorted by: its own, or the one that its text begins with
  const numberOf = (cell) => {
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const text = cell.textContent.replace("−", "-").replace(/^p [<=] /, "");
    const match = text.match(/^([+-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?) ?([a-zA-Z]+)?/);
    return match ? Number(match[1].replaceAll(",", "")) * (UNITS[match[2]] ?? 1) : NaN;
  };

  // numbers first, in order; then text; then what is not there: whichever way the column is sorted
  const compare = (one, two, sign) => {
    const rank = (cell) => (/^(–|)$/.test(cell.textContent) ? 2 : Number.isNaN(numberOf(cell)) ? 1 : 0);
    if (rank(one) !== rank(two)) return rank(one) - rank(two);
    return rank(one) === 0
      ? sign * (numberOf(one) - numberOf(two))
      : sign * COLLATOR.compare(one.textContent, two.textContent);
  };

  const sort = (heading) => {
    const row = heading.parentElement;
    const body = row.closest("table").tBodies[0];
    const column = [...row.cells].indexOf(heading);
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of row.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = [...body.rows].filter((each) => each.cells.length > column);
    rows.sort((one, two) => compare(one.cells[column], two.cells[column], sign));
    body.append(...rows);
  };

  const csv = (rows) =>
    rows.map((row) => row.map((cell) => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(",")).join("\n") + "\n";

  const download = (name, content, type) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const fileName = (name, suffix) => `${name.toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_|_$/g, "") || "table"}.${suffix}`;

  const button = (label, title, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.title = title;
    made.addEventListener("click", act);
    return made;
  };

  const cellsOf = (table) =>
    [...table.rows].map((row) => [...row.cells].map((cell) => cell.dataset.v ?? cell.textContent));

  const equip = (table) => {
    for (const heading of table.tHead.rows[0].cells) {
      const label = heading.textContent;
      heading.replaceChildren(button(label, `Sort by ${label}`, () => sort(heading)));
    }
    const name = table.dataset.name;
    const save = button("CSV", `Download ${name} as CSV`, () => download(fileName(name, "csv"), csv(cellsOf(table)), "text/csv"));
    save.className = "save";
    table.closest(".table").prepend(save);
  };

  document.querySelectorAll("table").forEach(equip);
  return { button, csv, download, fileName, equip };
})();
